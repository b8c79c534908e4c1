package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// wakeUp: without the trigger a reader polls, which is slower and nothing worse.
func (x *examination) wakeUp(ctx context.Context) error {
	const query = `SELECT (SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = $1 AND tgname = $2), current_setting('max_prepared_transactions')::int`
	var enabled *string
	var prepared int
	if err := x.conn.QueryRow(ctx, query, x.log.TableOID, changelog.WakeTrigger).Scan(&enabled, &prepared); err != nil {
		return err
	}
	const polls = "so that new changes are found by polling only"
	mode := x.log.Notify
	switch {
	case enabled == nil:
		x.add(Note, "the wake-up trigger is not on the log, "+polls, "run as a role that may create triggers: fraiseql-observer migrate --database URL")
	case !x.log.HasWakeTrigger:
		x.add(Warning, "the wake-up trigger is disabled, "+polls, fmt.Sprintf("ALTER TABLE %s ENABLE TRIGGER %s;", x.table, changelog.WakeTrigger))
	case mode == changelog.NotifyNever:
		x.add(Note, "the wake-up mode is never, "+polls, "if that is not wanted: fraiseql-observer migrate --notify auto")
	case mode == changelog.NotifyAlways && prepared > 0:
		x.add(Warning, fmt.Sprintf("the wake-up mode is always and max_prepared_transactions is %d: "+
			"PREPARE TRANSACTION fails after a change of a captured table that had to wake the reader", prepared),
			"if an application uses two-phase commit: fraiseql-observer migrate --notify auto; otherwise set max_prepared_transactions to 0")
	case mode != changelog.NotifyAlways && prepared > 0:
		x.add(Note, fmt.Sprintf("max_prepared_transactions is %d, where the wake-up mode auto does not notify, %s", prepared, polls),
			"if no application uses two-phase commit, set max_prepared_transactions to 0 or run: fraiseql-observer migrate --notify always")
	default:
		x.ok("the wake-up trigger is there and enabled, its mode is %s", mode)
	}
	return nil
}

// notificationQueue: one session that listens in a transaction and does not end
// it fills the queue of the whole server, and at its end commits fail.
func (x *examination) notificationQueue(ctx context.Context) error {
	var used float64
	if err := x.conn.QueryRow(ctx, "SELECT pg_notification_queue_usage()").Scan(&used); err != nil {
		return err
	}
	if used < x.Limits.Queue {
		x.ok("the queue of notifications is %.0f%% full", used*100)
		return nil
	}
	x.add(Warning, fmt.Sprintf("the queue of notifications is %.2g%% full; when it is full, commits that notify fail", used*100),
		"end the transaction of the session that listens and does not read: SELECT pid, xact_start, state FROM pg_stat_activity WHERE xact_start IS NOT NULL ORDER BY xact_start;")
	return nil
}

// pooler: whoever greets us must be the process that runs our statements, from
// one to the next. Two clients that are served by one process at once prove that
// a pooler shares it between transactions.
func (x *examination) pooler(ctx context.Context) (err error) {
	first, err := backend(ctx, x.conn)
	if err != nil {
		return err
	}
	second, err := backend(ctx, x.conn)
	if err != nil {
		return err
	}
	if greeted := x.conn.PgConn().PID(); first == greeted && second == greeted {
		x.ok("no pooler stands between here and the server")
		return nil
	}
	shared := first != second
	if !shared {
		if shared, err = x.shares(ctx, second); err != nil {
			return err
		}
	}
	kind := "a pooler"
	if shared {
		kind = "a pooler in transaction mode"
	}
	x.add(Warning, kind+" stands between here and the server: new changes are found by polling only",
		"give the observer a URL that leads to the server itself; it needs few connections and keeps them")
	return nil
}

// shares reports whether a second client gets the process that serves the first.
func (x *examination) shares(ctx context.Context, pid uint32) (_ bool, err error) {
	conn, err := connect(ctx, x.URL.Reveal())
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, hangUp(ctx, conn)) }()
	other, err := backend(ctx, conn)
	return other == pid, err
}

func backend(ctx context.Context, conn *pgx.Conn) (pid uint32, err error) {
	err = conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid)
	return pid, err
}
