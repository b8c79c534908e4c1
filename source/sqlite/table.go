package sqlite

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// table is a table to capture, as the schema has it.
type table struct {
	name string
	spec spec
	// rowid is the name under which the rowid can be reached, "" when the key
	// consists of columns.
	rowid string
	// settable is a column that an UPDATE may name.
	settable string
}

// column is a column as the schema has it.
type column struct {
	name      string
	key       int // place in the primary key, from 1; 0 = not in it
	generated bool
}

// resolve checks a capture against the schema and fills in what it leaves out.
func resolve(ctx context.Context, q queryer, c Capture) (*table, error) {
	t := &table{}
	withoutRowid, err := t.find(ctx, q, c.Table)
	if err != nil {
		return nil, err
	}
	columns, err := columnsOf(ctx, q, t.name)
	if err != nil {
		return nil, err
	}
	if err := t.adopt(c, columns); err != nil {
		return nil, err
	}
	if len(t.spec.Key) > 0 {
		return t, nil
	}
	if withoutRowid {
		return nil, fmt.Errorf("table %s has no key", t.name)
	}
	return t, t.useRowid()
}

// find takes the table's own spelling from the schema.
func (t *table) find(ctx context.Context, q queryer, name string) (withoutRowid bool, err error) {
	rows, err := q.QueryContext(ctx, "SELECT name, type, wr FROM pragma_table_list WHERE schema = 'main' ORDER BY name")
	if err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	var names []string
	for rows.Next() {
		var n, kind string
		var wr bool
		if err := rows.Scan(&n, &kind, &wr); err != nil {
			return false, fmt.Errorf("list tables: %w", err)
		}
		if strings.EqualFold(n, name) {
			t.name = n
			return wr, refuse(n, kind)
		}
		if refuse(n, kind) == nil {
			names = append(names, n)
		}
	}
	if err := rows.Err(); err != nil {
		return false, fmt.Errorf("list tables: %w", err)
	}
	return false, noTable(name, names)
}

// refuse says why a table cannot be captured.
func refuse(name, kind string) error {
	lower := strings.ToLower(name)
	switch {
	case kind == "view":
		return fmt.Errorf("%s is a view: capture the tables under it", name)
	case kind != "table":
		return fmt.Errorf("%s is a %s table: only ordinary tables can be captured", name, kind)
	case strings.HasPrefix(lower, "sqlite_"):
		return fmt.Errorf("%s is one of SQLite's own tables", name)
	case strings.HasPrefix(lower, logTable):
		return fmt.Errorf("%s belongs to the change log: recording it in itself would never end", name)
	}
	return nil
}

func noTable(name string, names []string) error {
	what := fmt.Sprintf("there is no table %q", name)
	if len(names) == 0 {
		what += ": the database has no tables yet"
	}
	return missing(what, name, names)
}

// columnsOf lists the columns of a table, generated ones included.
func columnsOf(ctx context.Context, q queryer, name string) (list []column, err error) {
	rows, err := q.QueryContext(ctx, "SELECT name, pk, hidden FROM pragma_table_xinfo(?) ORDER BY cid", name)
	if err != nil {
		return nil, fmt.Errorf("list the columns of %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var c column
		var hidden int
		if err := rows.Scan(&c.name, &c.key, &hidden); err != nil {
			return nil, fmt.Errorf("list the columns of %s: %w", name, err)
		}
		c.generated = hidden > 1
		list = append(list, c)
	}
	return list, rows.Err()
}

// adopt makes the spec of c, with every name spelled as the table spells it.
func (t *table) adopt(c Capture, columns []column) error {
	s := spec{Capture: Capture{Table: t.name, Entity: c.Entity}}
	for _, col := range columns {
		s.All = append(s.All, col.name)
		if !col.generated && t.settable == "" {
			t.settable = col.name
		}
	}
	var err error
	if s.Key, err = spelled(t.name, c.Key, s.All); err != nil {
		return err
	}
	if s.Columns, err = spelled(t.name, c.Columns, s.All); err != nil {
		return err
	}
	if c.Tenant != "" {
		tenant, err := spelled(t.name, []string{c.Tenant}, s.All)
		if err != nil {
			return err
		}
		s.Tenant = tenant[0]
	}
	if len(s.Key) == 0 {
		s.Key = primaryKey(columns)
	}
	t.spec = s
	return nil
}

func spelled(table string, names, all []string) ([]string, error) {
	var list []string
	for _, name := range names {
		i := slices.IndexFunc(all, func(c string) bool { return strings.EqualFold(c, name) })
		if i < 0 {
			return nil, missing(fmt.Sprintf("table %s has no column %q", table, name), name, all)
		}
		if !slices.Contains(list, all[i]) {
			list = append(list, all[i])
		}
	}
	return list, nil
}

func primaryKey(columns []column) []string {
	var key []string
	for place := 1; ; place++ {
		i := slices.IndexFunc(columns, func(c column) bool { return c.key == place })
		if i < 0 {
			return key
		}
		key = append(key, columns[i].name)
	}
}

// useRowid finds a name of the rowid that no column hides.
func (t *table) useRowid() error {
	for _, name := range []string{"rowid", "_rowid_", "oid"} {
		if !slices.ContainsFunc(t.spec.All, func(c string) bool { return strings.EqualFold(c, name) }) {
			t.rowid = name
			return nil
		}
	}
	return fmt.Errorf("table %s has no primary key and its columns hide the rowid: name the columns of its key", t.name)
}

// captured are the columns of the images, in the table's order.
func (t *table) captured() []string {
	if len(t.spec.Columns) == 0 {
		return t.spec.All
	}
	var list []string
	for _, c := range t.spec.All {
		if slices.Contains(t.spec.Columns, c) || slices.Contains(t.spec.Key, c) {
			list = append(list, c)
		}
	}
	return list
}
