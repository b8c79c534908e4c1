package capture

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// installation is a function of ours in the database.
type installation struct {
	oid  uint32
	name string
	body string
	spec spec
}

// installed reads every function of ours.
func installed(ctx context.Context, q queryer, schema string) ([]installation, error) {
	rows, err := q.Query(ctx, `SELECT f.oid, f.proname::text, f.prosrc FROM pg_proc f JOIN pg_namespace s ON s.oid = f.pronamespace
		WHERE s.nspname = $1 AND f.prorettype = 'trigger'::regtype AND starts_with(f.proname, $2) ORDER BY 2`, schema, functionPrefix)
	if err != nil {
		return nil, fmt.Errorf("list the captures: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (f installation, err error) {
		if err := row.Scan(&f.oid, &f.name, &f.body); err != nil {
			return f, err
		}
		_, text, _ := strings.Cut(f.body, specOpen)
		text, _, found := strings.Cut(text, specClose)
		if !found || json.Unmarshal([]byte(text), &f.spec) != nil {
			return f, fmt.Errorf("function %s.%s was changed by hand: its description cannot be read; drop it with CASCADE and add the capture again", schema, f.name)
		}
		return f, nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the captures: %w", err)
	}
	return list, nil
}

// attachment is a trigger that calls a function of ours.
type attachment struct {
	oid      uint32 // of the table
	name     string // of the trigger
	relation string // quoted where needed
	enabled  bool
	root     uint32 // the partitioned table it is part of, or itself
}

func (f *installation) triggers(ctx context.Context, q queryer) ([]attachment, error) {
	rows, err := q.Query(ctx, `SELECT c.oid, t.tgname::text, format('%I.%I', s.nspname, c.relname), t.tgenabled IN ('O', 'A'), coalesce(pg_partition_root(c.oid)::oid, c.oid)
		FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE t.tgfoid = $1 ORDER BY c.relispartition, 3, 2`, f.oid)
	if err != nil {
		return nil, fmt.Errorf("list the triggers that call %s: %w", f.name, err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (a attachment, err error) {
		return a, row.Scan(&a.oid, &a.name, &a.relation, &a.enabled, &a.root)
	})
	if err != nil {
		return nil, fmt.Errorf("list the triggers that call %s: %w", f.name, err)
	}
	return list, nil
}

func (f *installation) belongs(which target, attached []attachment) bool {
	for _, a := range attached {
		if a.root == which.oid {
			return true
		}
	}
	return len(attached) == 0 && sameName(f.spec.Table, which.name)
}

// sameName compares the name of a table that may be gone with what somebody wrote.
func sameName(stored, written string) bool {
	if stored == written {
		return true
	}
	a, err := splitName(stored)
	if err != nil {
		return false
	}
	b, err := splitName(written)
	if err != nil {
		return false
	}
	if len(b) == 1 {
		b = []string{"public", b[0]}
	}
	return changelog.QuoteName(a...) == changelog.QuoteName(b...)
}
