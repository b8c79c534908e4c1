package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// All says which tables are captured together.
type All struct {
	// Schema is the one whose tables are captured; default "public".
	Schema string
	// Tenant, where a table has such a column, and BeforeImage are as in [Capture].
	Tenant      string
	BeforeImage bool
	// Options say where the change log is.
	Options changelog.Options
}

// Skipped is a table that was not captured, and why.
type Skipped struct {
	Table  string `json:"table"`
	Reason string `json:"reason"`
}

// AddAll captures every ordinary and every partitioned table of a schema that has
// a primary key, under the entity type that [EntityName] makes of its name. A table
// that is captured already keeps what it was captured with, and is brought up to
// date. It goes on after a table that fails, and returns what became of each with
// the joined errors.
func AddAll(ctx context.Context, url string, a All) (added []Capture, skipped []Skipped, err error) {
	a.Options = a.Options.OrDefault()
	if a.Schema == "" {
		a.Schema = "public"
	}
	candidates, skipped, err := a.candidates(ctx, url)
	if err != nil {
		return nil, nil, fmt.Errorf("add captures of schema %s: %w", a.Schema, err)
	}
	for _, c := range candidates {
		done, failed := Add(ctx, url, c)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("table %s: %w", c.Table, failed))
			continue
		}
		added = append(added, done)
	}
	return added, skipped, err
}

// candidates are the captures to add. Two tables whose names make the same entity
// type are left to the user, because their events could not be told apart.
func (a All) candidates(ctx context.Context, url string) (list []Capture, skipped []Skipped, err error) {
	conn, err := changelog.Connect(ctx, url)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	present, err := listAll(ctx, conn, a.Options)
	if err != nil {
		return nil, nil, err
	}
	tables, err := a.tables(ctx, conn)
	if err != nil {
		return nil, nil, err
	}
	taken := map[string]string{}
	for _, s := range present {
		taken[s.Entity] = s.Table
	}
	for _, t := range tables {
		entity := EntityName(t.name)
		i := slices.IndexFunc(present, func(s Status) bool { return s.Table == t.shown })
		switch {
		case i >= 0:
			c := present[i].Capture
			c.Options = a.Options
			list = append(list, c)
		case t.reason != "":
			skipped = append(skipped, Skipped{t.shown, t.reason})
		case taken[entity] != "":
			skipped = append(skipped, Skipped{t.shown, "its entity type would be " + entity + ", as that of " + taken[entity] + ": add it by itself"})
		default:
			taken[entity] = t.shown
			c := Capture{Table: t.shown, Entity: entity, BeforeImage: a.BeforeImage, Options: a.Options}
			if t.tenant {
				c.Tenant = a.Tenant
			}
			list = append(list, c)
		}
	}
	return list, skipped, nil
}

// found is a table of the schema.
type found struct {
	name, shown, reason string
	tenant              bool
}

func (a All) tables(ctx context.Context, conn *pgx.Conn) (list []found, err error) {
	var exists bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1)", a.Schema).Scan(&exists); err != nil {
		return nil, err
	}
	if !exists {
		return nil, fmt.Errorf("there is no schema %s", a.Schema)
	}
	rows, err := conn.Query(ctx, `SELECT c.relname::text, format('%I.%I', s.nspname, c.relname),
			CASE WHEN EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary) THEN '' ELSE 'it has no primary key' END,
			EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = $2 AND a.attnum > 0 AND NOT a.attisdropped)
		FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE s.nspname = $1 AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't'
			AND NOT (s.nspname = $3 AND c.relname = $4) AND s.nspname <> $5 ORDER BY 1`,
		a.Schema, a.Tenant, a.Options.Log.Schema, a.Options.Log.Table, a.Options.Schema)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (f found, err error) {
		return f, row.Scan(&f.name, &f.shown, &f.reason, &f.tenant)
	})
}

// EntityName is the entity type for a table: its words in the singular, in
// PascalCase, without FraiseQL's prefix tb_. So tb_order_lines gives OrderLine.
// Only the last word is made singular: -ies becomes -y; -sses, -xes, -ches, -shes
// and -zzes lose -es; any other -s but -ss, -us and -is goes.
func EntityName(table string) string {
	words := strings.FieldsFunc(strings.TrimPrefix(table, "tb_"), func(r rune) bool { return !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	if len(words) == 0 {
		return table
	}
	words[len(words)-1] = singular(words[len(words)-1])
	for i, w := range words {
		first, size := utf8.DecodeRuneInString(w)
		words[i] = string(unicode.ToUpper(first)) + w[size:]
	}
	return strings.Join(words, "")
}

func singular(word string) string {
	has := func(suffixes ...string) bool {
		return slices.ContainsFunc(suffixes, func(s string) bool { return strings.HasSuffix(word, s) && len(word) > len(s) })
	}
	switch {
	case has("ies") && len(word) > 4:
		return strings.TrimSuffix(word, "ies") + "y"
	case has("sses", "xes", "ches", "shes", "zzes"):
		return strings.TrimSuffix(word, "es")
	case has("s") && !has("ss", "us", "is"):
		return strings.TrimSuffix(word, "s")
	}
	return word
}
