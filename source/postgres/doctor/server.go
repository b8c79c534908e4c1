package doctor

import (
	"context"
	"fmt"
	"time"
)

// oldest is the oldest version with everything that capture and reader use.
const oldest = 130000

func (x *examination) serverVersion(ctx context.Context) error {
	const query = `SELECT current_user::text, quote_ident(current_user), quote_ident($1), quote_ident($2) || '.' || quote_ident($3),
       current_setting('server_version_num')::int, current_setting('server_version')`
	var number int
	var text string
	err := x.conn.QueryRow(ctx, query, x.Schema, x.Log.Schema, x.Log.Table).
		Scan(&x.report.Role, &x.role, &x.schema, &x.table, &number, &text)
	if err != nil {
		return err
	}
	x.report.Log = x.table
	x.add(versionFinding(number, text))
	return nil
}

func versionFinding(number int, text string) (level Level, what, do string) {
	if number < oldest {
		return Problem, "the server is PostgreSQL " + text + ", and 13 is the oldest version that works", "upgrade the server"
	}
	return OK, "PostgreSQL " + text, ""
}

func (x *examination) standbyServer(ctx context.Context) error {
	var standby bool
	if err := x.conn.QueryRow(ctx, "SELECT pg_is_in_recovery()").Scan(&standby); err != nil {
		return err
	}
	if standby {
		x.add(Problem, "the server is a standby, which does not know the transactions that run on its primary",
			"connect to the primary (with several hosts in the URL add target_session_attrs=read-write)")
		return nil
	}
	x.ok("the server is a primary")
	return nil
}

// connections counts what is left by the tightest of the three limits. The
// figures of pg_stat_database are the ones that every role may see.
func (x *examination) connections(ctx context.Context) error {
	const query = `SELECT name, most::int, used::int FROM (
  SELECT 1, 'the server', current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
         - coalesce(current_setting('reserved_connections', true)::int, 0), (SELECT sum(numbackends) FROM pg_stat_database)
  UNION ALL SELECT 2, 'database ' || quote_ident(datname), datconnlimit, (SELECT numbackends FROM pg_stat_database s WHERE s.datid = d.oid)
    FROM pg_database d WHERE datname = current_database() AND datconnlimit >= 0
  UNION ALL SELECT 3, 'role ' || quote_ident(rolname), rolconnlimit, (SELECT count(*) FROM pg_stat_activity a WHERE a.usesysid = r.oid)
    FROM pg_roles r WHERE rolname = session_user AND rolconnlimit >= 0
) AS limits (place, name, most, used) ORDER BY most - used, place LIMIT 1`
	var name string
	var most, used int
	if err := x.conn.QueryRow(ctx, query).Scan(&name, &most, &used); err != nil {
		return err
	}
	left := max(most-used, 0)
	if left < x.Limits.Connections {
		x.add(Warning, fmt.Sprintf("%d of %d connections of %s are left, and a daemon opens up to %d", left, most, name, daemonConnections),
			"raise the limit (max_connections, or CONNECTION LIMIT of the role or database), or end sessions that nobody uses")
		return nil
	}
	x.ok("%d of %d connections of %s are left", left, most, name)
	return nil
}

// daemonConnections is the pool of the state store, the stream and a look-up.
const daemonConnections = 10

// clock compares the clocks in the middle of a round trip, of several the
// shortest: half of it is what the answer may be wrong by.
func (x *examination) clock(ctx context.Context) error {
	var best, off time.Duration
	for i := range 4 {
		var server time.Time
		before := x.Now()
		if err := x.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&server); err != nil {
			return err
		}
		trip := x.Now().Sub(before)
		if i == 0 || trip < best {
			best, off = trip, server.Sub(before.Add(trip/2))
		}
	}
	if off.Abs()-best/2 <= x.Limits.Clock {
		x.ok("the clocks of the server and of this machine agree to within %s", max(off.Abs()+best/2, time.Millisecond).Round(time.Millisecond))
		return nil
	}
	side := "ahead of"
	if off < 0 {
		side = "behind"
	}
	x.add(Warning, fmt.Sprintf("the server's clock is %s %s the one of this machine, so that ages and schedules are off by as much", off.Abs().Round(time.Millisecond), side),
		"synchronize both with NTP")
	return nil
}

func (x *examination) encoding(ctx context.Context) error {
	var name string
	if err := x.conn.QueryRow(ctx, "SELECT current_setting('server_encoding')").Scan(&name); err != nil {
		return err
	}
	if name == "UTF8" {
		x.ok("the database is encoded in UTF8")
		return nil
	}
	x.add(Warning, "the database is encoded in "+name+", which cannot hold every character that JSON can",
		"move to a database made with CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0; until then changes with other characters may not be recorded")
	return nil
}

func (x *examination) walLevel(ctx context.Context) error {
	var level string
	if err := x.conn.QueryRow(ctx, "SELECT current_setting('wal_level')").Scan(&level); err != nil {
		return err
	}
	if level == "minimal" {
		x.add(Note, "wal_level is minimal: enough to read the change log, but there can be no standby and no point-in-time recovery",
			"if you want those: ALTER SYSTEM SET wal_level = 'replica', and restart the server")
		return nil
	}
	x.ok("wal_level is %s (only logical replication would need logical; reading the change log does not)", level)
	return nil
}

// durability: what was acted on must not be forgotten by a crash of the server.
func (x *examination) durability(ctx context.Context) error {
	const query = `SELECT coalesce(string_agg(name, ' and ' ORDER BY name), ''),
       coalesce((SELECT string_agg(DISTINCT coalesce('role ' || quote_ident(r.rolname), 'all roles'), ', ')
          FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole CROSS JOIN unnest(s.setconfig) AS c
         WHERE c = 'synchronous_commit=off' AND s.setdatabase IN (0, (SELECT oid FROM pg_database WHERE datname = current_database()))), ''),
       (SELECT reset_val = 'off' FROM pg_settings WHERE name = 'synchronous_commit')
  FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off'`
	var broken, roles string
	var async bool
	if err := x.conn.QueryRow(ctx, query).Scan(&broken, &roles, &async); err != nil {
		return err
	}
	if broken != "" {
		x.add(Warning, "off are "+broken+": a power failure can destroy the database, and what was acted on with it",
			"ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();")
	}
	if async || roles != "" {
		x.add(Warning, "synchronous_commit is off"+forRoles(roles)+": a crash of the server can undo commits that were acted on already",
			"leave it on for those who write captured tables: ALTER ROLE ... RESET synchronous_commit, ALTER DATABASE ... RESET synchronous_commit")
	}
	if broken == "" && !async && roles == "" {
		x.ok("commits survive a crash of the server (fsync, full_page_writes and synchronous_commit are on)")
	}
	return nil
}

func forRoles(roles string) string {
	if roles == "" {
		return ""
	}
	return " for " + roles
}

// activityRights finds out how much of other sessions can be seen.
func (x *examination) activityRights(ctx context.Context) error {
	err := x.conn.QueryRow(ctx, "SELECT pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')").Scan(&x.sees)
	if err != nil {
		return err
	}
	if !x.sees {
		x.add(Note, "role "+x.report.Role+" cannot see how old the transactions of other roles are, nor what they do",
			"GRANT pg_read_all_stats TO "+x.role+";")
		return nil
	}
	x.ok("the role sees what other sessions do")
	return nil
}

// roleSettings looks at the values a new session of the role begins with.
func (x *examination) roleSettings(ctx context.Context) error {
	const query = `SELECT name, reset_val FROM pg_settings
 WHERE name = 'default_transaction_isolation' AND reset_val <> 'read committed'
    OR name = 'default_transaction_read_only' AND reset_val = 'on'
    OR name IN ('statement_timeout', 'lock_timeout', 'idle_session_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')
       AND reset_val::bigint BETWEEN 1 AND CASE name WHEN 'lock_timeout' THEN 999 WHEN 'idle_in_transaction_session_timeout' THEN 4999 ELSE 29999 END
 ORDER BY name`
	list, err := rowsOf[setting](ctx, x.conn, query)
	if err != nil {
		return err
	}
	for _, s := range list {
		x.add(Warning, s.what(), fmt.Sprintf("ALTER ROLE %[1]s SET %[2]s = %[3]s; (it may also be set for the database, or in the URL)",
			x.role, s.Name, s.better()))
	}
	if len(list) == 0 {
		x.ok("no setting of the role is in the way")
	}
	return nil
}

// setting is a parameter and its value.
type setting struct{ Name, Value string }

func (s setting) what() string {
	switch s.Name {
	case "default_transaction_isolation":
		return "sessions of the role begin in isolation level " + s.Value + ", in which the state store may have to repeat transactions that conflict"
	case "default_transaction_read_only":
		return "sessions of the role may only read, so that state kept in this database cannot be written"
	case "idle_session_timeout":
		return "idle_session_timeout is " + s.Value + " ms: sessions of the daemon that wait for work are ended"
	}
	return s.Name + " is " + s.Value + " ms: on a busy server statements of the daemon may be ended before they are done"
}

func (s setting) better() string {
	switch s.Name {
	case "default_transaction_isolation":
		return "'read committed'"
	case "default_transaction_read_only":
		return "off"
	}
	return "0"
}
