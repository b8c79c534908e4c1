package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// queryer is a connection or a transaction.
type queryer interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// table is a table to capture, as the catalogs have it.
type table struct {
	oid     uint32
	schema  string
	name    string
	columns []column
	spec    spec
	// unique reports whether the key identifies one row at every moment.
	unique bool
	opts   changelog.Options
}

// column is a column of a table.
type column struct {
	num  int16
	name string
	// kind is the name of the type when it is one of PostgreSQL's own, else "".
	kind string
}

// resolve checks a capture against the catalogs and fills in what it leaves out.
func resolve(ctx context.Context, q queryer, c Capture) (*table, error) {
	t := &table{opts: c.Options.OrDefault()}
	name, err := t.find(ctx, q, c.Table)
	if err != nil {
		return nil, err
	}
	if t.columns, err = columnsOf(ctx, q, t.oid); err != nil {
		return nil, err
	}
	t.spec = spec{Capture: c, Log: t.opts.Log.String()}
	t.spec.Table = name
	t.spec.Options = t.opts
	if err := t.adopt(ctx, q); err != nil {
		return nil, err
	}
	t.unique, err = uniqueKey(ctx, q, t.oid, t.numbers(t.spec.Key))
	return t, err
}

// find looks a table up: as SQL would read the name, or else as it is spelled.
func (t *table) find(ctx context.Context, q queryer, name string) (shown string, err error) {
	oid, err := lookUp(ctx, q, name)
	if err != nil {
		return "", err
	}
	var kind, persistence string
	var partition bool
	var parent string
	err = q.QueryRow(ctx, `SELECT c.oid, s.nspname::text, c.relname::text, format('%I.%I', s.nspname, c.relname), c.relkind::text,
			c.relpersistence::text, c.relispartition, coalesce(pg_partition_root(c.oid), c.oid)::regclass::text
		FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.oid = $1`, oid).
		Scan(&t.oid, &t.schema, &t.name, &shown, &kind, &persistence, &partition, &parent)
	if err != nil {
		return "", fmt.Errorf("look up table %s: %w", name, err)
	}
	return shown, t.refuse(shown, kind+persistence, partition, parent)
}

// refuse says why a table cannot be captured.
func (t *table) refuse(shown, kind string, partition bool, parent string) error {
	o := t.opts
	switch {
	case t.schema == "pg_catalog" || t.schema == "information_schema":
		return fmt.Errorf("%s is one of PostgreSQL's own tables", shown)
	case t.schema == o.Schema || t.schema == o.Log.Schema && t.name == o.Log.Table:
		return fmt.Errorf("%s belongs to the change log: recording it in itself would never end", shown)
	case strings.HasSuffix(kind, "t"):
		return fmt.Errorf("%s is a temporary table", shown)
	case kind[0] == 'v' || kind[0] == 'm':
		return fmt.Errorf("%s is a view: capture the tables under it", shown)
	case kind[0] == 'f':
		return fmt.Errorf("%s is a foreign table: capture it in the database that holds it", shown)
	case kind[0] != 'r' && kind[0] != 'p':
		return fmt.Errorf("%s is not a table", shown)
	case partition:
		return fmt.Errorf("%s is a partition: capture %s, which captures its partitions too", shown, parent)
	}
	return nil
}

// lookUp finds the number of a table. The name may be quoted as in SQL, and a
// name with capitals need not be.
func lookUp(ctx context.Context, q queryer, name string) (oid uint32, err error) {
	schema, table, qualified := strings.Cut(name, ".")
	if !qualified {
		schema, table = "", name
	}
	parsed := pgx.Identifier{name}.Sanitize()
	if parts, err := splitName(name); err == nil {
		parsed = pgx.Identifier(parts).Sanitize()
	}
	err = q.QueryRow(ctx, `SELECT oid FROM (
			SELECT to_regclass($1)::oid AS oid, 1 AS place
			UNION ALL SELECT c.oid, 2 FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
				WHERE c.relname = $3 AND CASE WHEN $2 = '' THEN pg_table_is_visible(c.oid) ELSE s.nspname = $2 END
		) f WHERE oid IS NOT NULL ORDER BY place LIMIT 1`, parsed, schema, table).Scan(&oid)
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, noTable(ctx, q, name)
	}
	if err != nil {
		return 0, fmt.Errorf("look up table %s: %w", name, err)
	}
	return oid, nil
}

func noTable(ctx context.Context, q queryer, name string) error {
	rows, err := q.Query(ctx, `SELECT format('%I.%I', s.nspname, c.relname) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'p') AND s.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
			AND lower(c.relname) = lower(reverse(split_part(reverse($1), '.', 1))) ORDER BY 1 LIMIT 3`, name)
	if err != nil {
		return fmt.Errorf("look up table %s: %w", name, err)
	}
	near, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("look up table %s: %w", name, err)
	}
	if len(near) > 0 {
		return fmt.Errorf("there is no table %s (but there is %s): %w", name, strings.Join(near, ", "), observer.ErrNotFound)
	}
	return fmt.Errorf("there is no table %s: %w", name, observer.ErrNotFound)
}

// splitName reads a name as SQL does: unquoted parts are in lower case.
func splitName(name string) (parts []string, err error) {
	for rest := name; ; {
		var part string
		if strings.HasPrefix(rest, `"`) {
			end := 1
			for end < len(rest) && (rest[end] != '"' || strings.HasPrefix(rest[end:], `""`)) {
				if rest[end] == '"' {
					end++
				}
				end++
			}
			if end >= len(rest) {
				return nil, errors.New("a quote is not closed")
			}
			part, rest = strings.ReplaceAll(rest[1:end], `""`, `"`), rest[end+1:]
		} else {
			i := strings.IndexAny(rest+".", `."`)
			part, rest = strings.ToLower(strings.TrimSpace(rest[:i])), rest[i:]
		}
		parts = append(parts, part)
		if rest == "" {
			return parts, nil
		}
		if rest[0] != '.' {
			return nil, errors.New("there is something after a quoted name")
		}
		rest = rest[1:]
	}
}

func columnsOf(ctx context.Context, q queryer, oid uint32) ([]column, error) {
	rows, err := q.Query(ctx, `SELECT a.attnum, a.attname::text, CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace THEN t.typname::text ELSE '' END
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
		WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum`, oid)
	if err != nil {
		return nil, fmt.Errorf("list the columns: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c column, err error) {
		return c, row.Scan(&c.num, &c.name, &c.kind)
	})
	if err != nil {
		return nil, fmt.Errorf("list the columns: %w", err)
	}
	return list, nil
}

// adopt spells the columns of the spec as the table does.
func (t *table) adopt(ctx context.Context, q queryer) (err error) {
	s := &t.spec
	for _, c := range t.columns {
		s.All = append(s.All, c.name)
		s.Numbers = append(s.Numbers, c.num)
	}
	if s.Key, err = t.spelled(s.Key); err != nil {
		return err
	}
	if s.Columns, err = t.spelled(s.Columns); err != nil {
		return err
	}
	if s.Tenant != "" {
		tenant, err := t.spelled([]string{s.Tenant})
		if err != nil {
			return err
		}
		s.Tenant = tenant[0]
	}
	if len(s.Key) == 0 {
		if s.Key, err = primaryKey(ctx, q, t.oid); err != nil {
			return err
		}
	}
	if len(s.Key) == 0 {
		return fmt.Errorf("table %s has no primary key: name the columns that identify a row with --key", s.Table)
	}
	return nil
}

// spelled finds columns: as they are spelled, or else whatever their case is.
func (t *table) spelled(names []string) (list []string, err error) {
	for _, name := range names {
		i := slices.Index(t.spec.All, name)
		if i < 0 {
			i = slices.IndexFunc(t.spec.All, func(c string) bool { return strings.EqualFold(c, name) })
		}
		if i < 0 {
			return nil, fmt.Errorf("table %s has no column %q (it has %s): %w", t.spec.Table, name, strings.Join(t.spec.All, ", "), observer.ErrNotFound)
		}
		if !slices.Contains(list, t.spec.All[i]) {
			list = append(list, t.spec.All[i])
		}
	}
	return list, nil
}

func primaryKey(ctx context.Context, q queryer, oid uint32) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT a.attname::text FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(num, place), pg_attribute a
		WHERE i.indrelid = $1 AND i.indisprimary AND k.place <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = k.num ORDER BY k.place`, oid)
	if err != nil {
		return nil, fmt.Errorf("read the primary key: %w", err)
	}
	key, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the primary key: %w", err)
	}
	return key, nil
}

// uniqueKey reports whether an index keeps two rows from having the same key, even
// in the middle of a statement, with no NULL in it.
func uniqueKey(ctx context.Context, q queryer, oid uint32, numbers []int16) (unique bool, err error) {
	err = q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_index i
			WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
				AND (i.indkey::smallint[])[0:i.indnkeyatts - 1] <@ $2::smallint[])
		AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = $1 AND a.attnum = ANY ($2::smallint[]) AND NOT a.attnotnull)`,
		oid, numbers).Scan(&unique)
	if err != nil {
		return false, fmt.Errorf("look for a unique index: %w", err)
	}
	return unique, nil
}

func (t *table) numbers(names []string) (list []int16) {
	for _, name := range names {
		list = append(list, t.spec.Numbers[slices.Index(t.spec.All, name)])
	}
	return list
}

// kindOf is the type of a column. The spec may be older than the table.
func (t *table) kindOf(name string) string {
	i := slices.IndexFunc(t.columns, func(c column) bool { return c.name == name })
	if i < 0 {
		return ""
	}
	return t.columns[i].kind
}
