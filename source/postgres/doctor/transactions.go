package doctor

import (
	"context"
	"fmt"
)

// holdersQuery lists who has drawn a key and is not finished, by the lock on the
// sequence that everybody keeps who drew from it.
const holdersQuery = `SELECT DISTINCT pid, virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND relation = $1 AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
   AND mode = 'RowExclusiveLock' AND granted`

// session is what is shown of another session.
type session struct {
	PID         int32
	User        string
	Application string
	Seconds     *float64
	State       string
	Query       string
}

const sessionColumns = `coalesce(a.usename, 'unknown')::text, coalesce(a.application_name, ''),
       extract(epoch FROM clock_timestamp() - a.xact_start)::float8, coalesce(a.state, 'in an unknown state'),
       CASE WHEN a.query = '<insufficient privilege>' THEN '' ELSE coalesce(a.query, '') END`

func (s session) String() string {
	text := fmt.Sprintf("pid %d, user %s", s.PID, s.User)
	if s.Application != "" {
		text += ", application " + s.Application
	}
	text += ", " + s.State
	if query := shorten(s.Query); query != "" {
		text += ", " + query
	}
	return text
}

// longTransactions: a transaction that hangs delays its own rows, and keeps the
// log above its keys from being pruned.
func (x *examination) longTransactions(ctx context.Context) error {
	if x.log.SequenceOID == 0 {
		return nil
	}
	list, err := rowsOf[session](ctx, x.conn, `SELECT h.pid, `+sessionColumns+`
  FROM (`+holdersQuery+`) AS h LEFT JOIN pg_stat_activity a ON a.pid = h.pid
 WHERE h.pid IS NOT NULL ORDER BY a.xact_start, h.pid`, x.log.SequenceOID)
	if err != nil {
		return err
	}
	found := false
	for _, s := range list {
		if s.Seconds != nil && *s.Seconds < x.Limits.LongTransaction.Seconds() {
			continue
		}
		found = true
		level := Warning
		if s.Seconds == nil {
			level = Note
		}
		x.add(level, fmt.Sprintf("a transaction that writes to the log has been open for %s, and its changes wait for its end (%s)", age(s.Seconds), s),
			fmt.Sprintf("let its application end it, or undo it: SELECT pg_terminate_backend(%d); (idle_in_transaction_session_timeout does so by itself)", s.PID))
	}
	if !found {
		x.ok("no transaction that writes to the log has been open for more than %s (%d are open)", x.Limits.LongTransaction, len(list))
	}
	return nil
}

// preparedTransactions are open until somebody who knows their name ends them.
// A prepared transaction has no process: its locks lead to its id.
func (x *examination) preparedTransactions(ctx context.Context) error {
	type prepared struct {
		GID, Owner string
		Seconds    float64
	}
	const query = `SELECT p.gid, p.owner::text, extract(epoch FROM clock_timestamp() - p.prepared)::float8
  FROM pg_prepared_xacts p WHERE p.database = current_database() AND EXISTS (
    SELECT FROM pg_locks l JOIN (` + holdersQuery + `) AS h ON h.virtualtransaction = l.virtualtransaction
     WHERE h.pid IS NULL AND l.pid IS NULL AND l.locktype = 'transactionid' AND l.transactionid = p.transaction)
 ORDER BY p.prepared`
	list, err := rowsOf[prepared](ctx, x.conn, query, x.log.SequenceOID)
	if err != nil {
		return err
	}
	found := false
	for _, p := range list {
		if p.Seconds < x.Limits.LongTransaction.Seconds() {
			continue
		}
		found = true
		x.add(Warning, fmt.Sprintf("prepared transaction %s of %s has been open for %s, and its changes wait for its end", p.GID, p.Owner, age(&p.Seconds)),
			fmt.Sprintf("end it as its transaction manager would: COMMIT PREPARED %[1]s; or ROLLBACK PREPARED %[1]s;", literal(p.GID)))
	}
	if found {
		return nil
	}
	var most int
	if err := x.conn.QueryRow(ctx, "SELECT current_setting('max_prepared_transactions')::int").Scan(&most); err != nil {
		return err
	}
	x.ok("no prepared transaction holds up the log (max_prepared_transactions is %d)", most)
	return nil
}
