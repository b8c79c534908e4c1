package doctor

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// captures compares every captured table with what was installed on it.
func (x *examination) captures(ctx context.Context) error {
	list, err := capture.List(ctx, x.URL.Reveal(), changelog.Options{Log: x.Log, Schema: x.Schema})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		x.add(Note, "no table is captured: only what an application writes to the log itself is delivered",
			"fraiseql-observer capture add --table TABLE --entity ENTITY, unless the application writes the log")
		return nil
	}
	names, drifted := make([]string, len(list)), false
	for i, s := range list {
		names[i] = s.Table
		// What the functions noted is a check of its own.
		drift := slices.DeleteFunc(s.Drift, func(d string) bool { return strings.Contains(d, changelog.UnrecordedTable) })
		if len(drift) == 0 {
			continue
		}
		drifted = true
		x.add(driftLevel(drift), fmt.Sprintf("the capture of %s as %s: %s", s.Table, s.Entity, strings.Join(drift, "; ")),
			fmt.Sprintf("install it again, with the options it had: fraiseql-observer capture add --table %s --entity %s (or capture remove, when the table is gone)",
				shellWord(s.Table), shellWord(s.Entity)))
	}
	if !drifted {
		x.ok("%d captured: %s", len(list), strings.Join(names, ", "))
	}
	return nil
}

// driftLevel tells changes that are not recorded from those that are recorded
// some other way.
func driftLevel(drift []string) Level {
	lost := slices.ContainsFunc(drift, func(d string) bool {
		return strings.Contains(d, "not recorded") || strings.Contains(d, "missing") || strings.Contains(d, "writes to")
	})
	if lost {
		return Problem
	}
	return Warning
}

// shellWord writes a word as a shell wants it.
func shellWord(s string) string {
	const plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_."
	if s != "" && strings.Trim(s, plain) == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// captureLost counts what the functions of captured tables noted that they could
// not record. The reasons may contain values and are not shown.
func (x *examination) captureLost(ctx context.Context) error {
	table := x.schema + "." + changelog.UnrecordedTable
	var may *bool
	err := x.conn.QueryRow(ctx, `SELECT (SELECT has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1 AND c.relname = $2)`, x.Schema, changelog.UnrecordedTable).Scan(&may)
	switch {
	case err != nil || may == nil:
		return err // that it is missing, the check "prepared" says
	case !*may:
		x.add(Note, "this could not be checked: the role may not read "+table,
			fmt.Sprintf("GRANT USAGE ON SCHEMA %[1]s TO %[3]s; GRANT SELECT ON %[2]s TO %[3]s;", x.schema, table, x.role))
		return nil
	}
	var n int64
	var tables, last string
	err = x.conn.QueryRow(ctx, "SELECT count(*), coalesce(string_agg(DISTINCT table_name, ', '), ''), coalesce(max(at)::text, '') FROM "+table).
		Scan(&n, &tables, &last)
	if err != nil {
		return err
	}
	if n > 0 {
		x.add(Problem, fmt.Sprintf("%d statements on %s were not recorded, the last at %s", n, tables, last),
			fmt.Sprintf("SELECT * FROM %[1]s; says why; mend that, bring the receivers up to date, then DELETE FROM %[1]s;", table))
		return nil
	}
	x.ok("every statement on a captured table could be recorded")
	return nil
}

// replicaRole: sessions with session_replication_role = replica fire no ordinary
// trigger, so that nothing of what they change is recorded.
func (x *examination) replicaRole(ctx context.Context) error {
	const query = `SELECT coalesce(quote_ident(r.rolname), ''), coalesce(quote_ident(d.datname), '')
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole LEFT JOIN pg_database d ON d.oid = s.setdatabase
 WHERE 'session_replication_role=replica' = ANY (s.setconfig) AND (s.setdatabase = 0 OR d.datname = current_database())
 ORDER BY 1, 2`
	type place struct{ Role, Database string }
	places, err := rowsOf[place](ctx, x.conn, query)
	if err != nil {
		return err
	}
	for _, p := range places {
		level, who, reset := Warning, "role "+p.Role, "ALTER DATABASE "+p.Database
		switch {
		case p.Role != "" && p.Database != "":
			reset = "ALTER ROLE " + p.Role + " IN DATABASE " + p.Database
		case p.Role != "":
			reset = "ALTER ROLE " + p.Role
		case p.Database != "":
			level, who = Problem, "everybody"
		default:
			level, who, reset = Problem, "everybody", "ALTER ROLE ALL"
		}
		x.add(level, fmt.Sprintf("session_replication_role is replica by default for %s: no trigger records what they change", who), reset+" RESET session_replication_role;")
	}
	if len(places) > 0 {
		return nil
	}
	return x.replicaServer(ctx)
}

func (x *examination) replicaServer(ctx context.Context) error {
	var value string
	if err := x.conn.QueryRow(ctx, "SELECT reset_val FROM pg_settings WHERE name = 'session_replication_role'").Scan(&value); err != nil {
		return err
	}
	if value == "replica" {
		x.add(Problem, "session_replication_role is replica on this server: no trigger records changes", "ALTER SYSTEM RESET session_replication_role; SELECT pg_reload_conf();")
		return nil
	}
	x.ok("triggers fire for every role by default")
	return nil
}

// subscriptions write as replicas do.
func (x *examination) subscriptions(ctx context.Context) error {
	const query = `SELECT subname FROM pg_subscription
 WHERE subenabled AND subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1`
	rows, err := rowsOf[struct{ Name string }](ctx, x.conn, query)
	if err != nil {
		return err
	}
	if len(rows) == 0 {
		x.ok("no subscription writes to this database")
		return nil
	}
	names := make([]string, len(rows))
	for i, r := range rows {
		names[i] = r.Name
	}
	x.add(Note, "what the subscription "+strings.Join(names, ", ")+" applies is not recorded: triggers do not fire for it",
		"nothing, if its tables are not captured; otherwise capture them in the database that publishes them")
	return nil
}
