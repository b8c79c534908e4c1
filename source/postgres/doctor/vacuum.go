package doctor

import (
	"context"
	"fmt"
	"strings"
)

// ourTables are the log, its partitions and the tables of our own schema; $1 is
// the log and $2 the schema.
const ourTables = `(SELECT $1::oid UNION SELECT relid::oid FROM pg_partition_tree($1::oid::regclass)
  UNION SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $2 AND c.relkind = 'r')`

// tableOID is the log, 0 when there is none.
func (x *examination) tableOID() uint32 {
	if x.log == nil {
		return 0
	}
	return x.log.TableOID
}

// autovacuum: tables from which rows are deleted all the time grow without it.
func (x *examination) autovacuum(ctx context.Context) error {
	const query = `SELECT current_setting('autovacuum')::bool AND current_setting('track_counts')::bool,
       coalesce((SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text) FROM pg_class c WHERE c.oid IN ` + ourTables + `
         AND EXISTS (SELECT FROM pg_options_to_table(c.reloptions) WHERE option_name = 'autovacuum_enabled' AND NOT option_value::bool)), '')`
	var on bool
	var off string
	if err := x.conn.QueryRow(ctx, query, x.tableOID(), x.Schema).Scan(&on, &off); err != nil {
		return err
	}
	switch {
	case !on:
		x.add(Warning, "autovacuum is off on this server: the log and the state grow, and are slower to read, with every row that is deleted",
			"ALTER SYSTEM SET autovacuum = on; ALTER SYSTEM SET track_counts = on; SELECT pg_reload_conf();")
	case off != "":
		x.add(Warning, "autovacuum is off for "+off+", which grows with every row that is deleted",
			"ALTER TABLE "+strings.ReplaceAll(off, ", ", " RESET (autovacuum_enabled); ALTER TABLE ")+" RESET (autovacuum_enabled);")
	default:
		x.ok("autovacuum is on")
	}
	return nil
}

func (x *examination) deadRows(ctx context.Context) error {
	type table struct {
		Name       string
		Dead, Live int64
	}
	const query = `SELECT relid::regclass::text, n_dead_tup, n_live_tup FROM pg_stat_all_tables
 WHERE relid IN ` + ourTables + ` AND n_dead_tup >= $3 AND n_dead_tup > n_live_tup / 5 ORDER BY n_dead_tup DESC`
	list, err := rowsOf[table](ctx, x.conn, query, x.tableOID(), x.Schema, x.Limits.DeadRows)
	if err != nil {
		return err
	}
	for _, t := range list {
		x.add(Warning, fmt.Sprintf("%s has about %d dead rows and %d living", t.Name, t.Dead, t.Live),
			"VACUUM "+t.Name+"; (if it does not help, an old snapshot holds them: see old_snapshots, prepared_transactions and replication_slots)")
	}
	if len(list) == 0 {
		x.ok("no table of ours has many dead rows")
	}
	return nil
}

// oldSnapshots are transactions anywhere on the server that keep dead rows from
// being removed.
func (x *examination) oldSnapshots(ctx context.Context) error {
	limit := x.Limits.OldSnapshot.Seconds()
	sessions, err := rowsOf[session](ctx, x.conn, `SELECT a.pid, `+sessionColumns+` FROM pg_stat_activity a
 WHERE (a.backend_xmin IS NOT NULL OR a.backend_xid IS NOT NULL) AND a.pid <> pg_backend_pid()
   AND extract(epoch FROM clock_timestamp() - a.xact_start) >= $1 ORDER BY a.xact_start LIMIT 5`, limit)
	if err != nil {
		return err
	}
	for _, s := range sessions {
		x.add(Warning, fmt.Sprintf("a transaction has been open for %s and keeps dead rows from being removed (%s)", age(s.Seconds), s),
			fmt.Sprintf("let its application end it, or: SELECT pg_terminate_backend(%d);", s.PID))
	}
	type prepared struct {
		GID, Database string
		Seconds       float64
	}
	old, err := rowsOf[prepared](ctx, x.conn, `SELECT gid, database::text, extract(epoch FROM clock_timestamp() - prepared)::float8 FROM pg_prepared_xacts
 WHERE extract(epoch FROM clock_timestamp() - prepared) >= $1 ORDER BY prepared LIMIT 5`, limit)
	if err != nil {
		return err
	}
	for _, p := range old {
		x.add(Warning, fmt.Sprintf("prepared transaction %s in database %s has been open for %s and keeps dead rows from being removed", p.GID, p.Database, age(&p.Seconds)),
			fmt.Sprintf("in that database: COMMIT PREPARED %[1]s; or ROLLBACK PREPARED %[1]s;", literal(p.GID)))
	}
	if len(sessions)+len(old) > 0 {
		return nil
	}
	if !x.sees {
		x.ok("no transaction that this role can see has been open for more than %s", x.Limits.OldSnapshot)
		return nil
	}
	x.ok("no transaction has been open for more than %s", x.Limits.OldSnapshot)
	return nil
}

// slot is a replication slot.
type slot struct {
	Name            string
	Active, Horizon bool
	Held            *int64
	Status          string
}

// replicationSlots keep dead rows and the write-ahead log for a reader, also for
// one that does not come back.
func (x *examination) replicationSlots(ctx context.Context) error {
	const query = `SELECT slot_name::text, active, xmin IS NOT NULL OR catalog_xmin IS NOT NULL,
       pg_wal_lsn_diff(CASE WHEN pg_is_in_recovery() THEN pg_last_wal_receive_lsn() ELSE pg_current_wal_lsn() END, restart_lsn)::bigint,
       coalesce(wal_status, '')
  FROM pg_replication_slots ORDER BY slot_name`
	list, err := rowsOf[slot](ctx, x.conn, query)
	if err != nil {
		return err
	}
	found := false
	for _, s := range list {
		if level := s.level(x.Limits.HeldWAL); level != OK {
			found = true
			x.add(level, s.what(), "let its reader connect, or when there is none any more: SELECT pg_drop_replication_slot("+literal(s.Name)+");")
		}
	}
	if !found {
		x.ok("no replication slot is left behind (%d are used)", len(list))
	}
	return nil
}

func (s slot) level(limit int64) Level {
	held := s.Held != nil && *s.Held >= limit
	switch {
	case held, !s.Active && s.Horizon:
		return Warning
	case !s.Active && (s.Held != nil || s.Status == "lost"):
		return Note
	}
	return OK
}

func (s slot) what() string {
	text := "replication slot " + s.Name
	if !s.Active {
		text += " has no reader"
	}
	var holds []string
	if s.Held != nil {
		holds = append(holds, size(*s.Held)+" of the write-ahead log")
	}
	if s.Horizon {
		holds = append(holds, "dead rows")
	}
	if s.Status == "lost" {
		return text + " and has lost what it needs"
	}
	if !s.Active {
		text += " and"
	}
	return text + " holds back " + strings.Join(holds, " and ")
}
