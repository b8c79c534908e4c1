package capture

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Status is a capture as it stands.
type Status struct {
	// Capture is what was asked for. Table is the table's name now.
	Capture
	// Drift says, for people, in what the table or the triggers differ from what
	// was installed; empty when they agree. Adding the capture again mends all of
	// it, and removing it what a dropped table left.
	Drift []string `json:"drift,omitempty"`
}

// List reports every captured table, by name. It needs no rights but to read the
// catalogs, and changes nothing. A database without a capture has none.
func List(ctx context.Context, url string, o changelog.Options) (_ []Status, err error) {
	conn, err := changelog.Connect(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("list captures: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	list, err := listAll(ctx, conn, o.OrDefault())
	if err != nil {
		return nil, fmt.Errorf("list captures: %w", err)
	}
	return list, nil
}

func listAll(ctx context.Context, q queryer, o changelog.Options) ([]Status, error) {
	all, err := installed(ctx, q, o.Schema)
	if err != nil {
		return nil, err
	}
	var list []Status
	for _, f := range all {
		attached, err := f.triggers(ctx, q)
		if err != nil {
			return nil, err
		}
		f.spec.Options = o
		if len(attached) == 0 {
			status, err := f.lost(ctx, q)
			if err != nil {
				return nil, err
			}
			list = append(list, status)
		}
		for len(attached) > 0 {
			root := attached[0].root
			mine := slices.DeleteFunc(slices.Clone(attached), func(a attachment) bool { return a.root != root })
			attached = slices.DeleteFunc(attached, func(a attachment) bool { return a.root == root })
			status, err := f.status(ctx, q, root, mine)
			if err != nil {
				return nil, err
			}
			list = append(list, status)
		}
	}
	if err := unrecorded(ctx, q, o, list); err != nil {
		return nil, err
	}
	slices.SortFunc(list, func(a, b Status) int { return strings.Compare(a.Table, b.Table) })
	return list, nil
}

// lost is the status of a function that no table calls.
func (f *installation) lost(ctx context.Context, q queryer) (Status, error) {
	drift := "its triggers are gone, as after making the table anew: changes are not recorded"
	var there bool
	if err := q.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", f.spec.Table).Scan(&there); err != nil {
		return Status{}, fmt.Errorf("look up table %s: %w", f.spec.Table, err)
	}
	if !there {
		drift = "the table is gone"
	}
	return Status{Capture: f.spec.Capture, Drift: []string{drift}}, nil
}

// status compares a function and its triggers with the table they are on.
func (f *installation) status(ctx context.Context, q queryer, root uint32, attached []attachment) (Status, error) {
	s := Status{Capture: f.spec.Capture}
	relations, err := relationsOf(ctx, q, root)
	if err != nil {
		return s, err
	}
	if s.Table = relations[0]; s.Table != f.spec.Table {
		s.Drift = append(s.Drift, "the table was renamed from "+f.spec.Table+", or was a part of it")
	}
	s.Drift = append(s.Drift, triggerDrift(relations, attached)...)
	columns, err := columnsOf(ctx, q, root)
	if err != nil {
		return s, err
	}
	s.Drift = append(s.Drift, f.columnDrift(columns)...)
	if log := f.spec.Options.Log.String(); f.spec.Log != log {
		s.Drift = append(s.Drift, "it writes to "+f.spec.Log+", not to "+log)
	}
	if len(s.Drift) == 0 {
		s.Drift, err = f.textDrift(ctx, q)
	}
	return s, err
}

func triggerDrift(relations []string, attached []attachment) (drift []string) {
	for i, r := range relations {
		there, off := 0, 0
		for _, a := range attached {
			if a.relation == r {
				there++
				if !a.enabled {
					off++
				}
			}
		}
		what := ""
		if i > 0 {
			what = " of partition " + r
		}
		if n := len(kinds()) - there; n > 0 {
			drift = append(drift, fmt.Sprintf("%d of %d triggers%s are missing", n, len(kinds()), what))
		}
		if off > 0 {
			drift = append(drift, fmt.Sprintf("%d of %d triggers%s are disabled: changes are not recorded", off, len(kinds()), what))
		}
	}
	return drift
}

// columnDrift looks at the columns that the function names: an image of the whole
// row follows the table.
func (f *installation) columnDrift(now []column) (drift []string) {
	named := slices.Concat(f.spec.Key, f.spec.Columns)
	if f.spec.Tenant != "" {
		named = append(named, f.spec.Tenant)
	}
	for i, was := range f.spec.All {
		if !slices.Contains(named, was) || slices.ContainsFunc(now, func(c column) bool { return c.name == was }) {
			continue
		}
		at := slices.IndexFunc(now, func(c column) bool { return c.num == f.spec.Numbers[i] && !slices.Contains(f.spec.All, c.name) })
		if at < 0 {
			drift = append(drift, fmt.Sprintf("column %s was removed: events are recorded without it, and slowly", was))
		} else {
			drift = append(drift, fmt.Sprintf("column %s was renamed to %s: events are recorded slowly", was, now[at].name))
		}
	}
	return drift
}

// textDrift compares the function with the one that would be made now.
func (f *installation) textDrift(ctx context.Context, q queryer) ([]string, error) {
	t, err := resolve(ctx, q, f.spec.Capture)
	if err != nil {
		return nil, err
	}
	// The columns known at the time stand in the text too, and may differ.
	t.spec.All, t.spec.Numbers = f.spec.All, f.spec.Numbers
	_, was, _ := strings.Cut(f.body, specClose)
	_, now, _ := strings.Cut(t.body(), specClose)
	if strings.TrimSpace(was) == strings.TrimSpace(now) {
		return nil, nil
	}
	return []string{"its function was made by another version, or for other types or indexes"}, nil
}

// unrecorded adds what the functions noted when there was no log to write to.
func unrecorded(ctx context.Context, q queryer, o changelog.Options, list []Status) error {
	table := changelog.QuoteName(o.Schema, changelog.UnrecordedTable)
	var readable bool
	if err := q.QueryRow(ctx, "SELECT coalesce(has_table_privilege(to_regclass($1), 'SELECT'), false)", table).Scan(&readable); err != nil || !readable {
		return err
	}
	rows, err := q.Query(ctx, "SELECT table_name, count(*), min(at)::text FROM "+table+" GROUP BY 1")
	if err != nil {
		return fmt.Errorf("read what was not recorded: %w", err)
	}
	var name, since string
	var n int
	_, err = pgx.ForEachRow(rows, []any{&name, &n, &since}, func() error {
		for i := range list {
			if parts, err := splitName(list[i].Table); err == nil && strings.Join(parts, ".") == name {
				list[i].Drift = append(list[i].Drift, fmt.Sprintf("%d statements were not recorded, the first at %s: see %s", n, since, table))
			}
		}
		return nil
	})
	return err
}
