package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// link is one connection, with the settings that the reader relies on.
//
// It is the place that knows of poolers. One in transaction mode gives each
// transaction any session of the server, which other clients use before and
// after: nothing may be left in it, no statement prepared, and nothing that was
// left there is found again. So behind a pooler everything happens in explicit
// transactions that bring their settings along.
type link struct {
	*pgx.Conn

	// pooled: there is a pooler between us and the server, in whatever mode.
	pooled bool
	// notified: a notification arrived since this was last set to false.
	notified bool
	// history is what the reading rests on, "" until that is known; table is the
	// log it was found for. Poolers can be led to another server without their
	// clients noticing.
	history string
	table   uint32
}

// settings are what the reader relies on, whatever the database or the role has
// for defaults.
//
// Row-level security must be an error and not an answer without the rows. The
// queries are right only by the index on the key: while the table has no
// statistics yet, the planner might choose otherwise and stay with it.
func settings() []string {
	return []string{
		"search_path = pg_catalog", "client_encoding = 'UTF8'", "datestyle = 'ISO'",
		"row_security = off",
		"enable_seqscan = off", "enable_bitmapscan = off", "max_parallel_workers_per_gather = 0",
		"plan_cache_mode = force_generic_plan", "jit = off",
	}
}

// sessionSettings matter between transactions. Each statement must see its own
// snapshot. A server that cannot reach us any more must notice that within half
// a minute: its session holds the lock by which writers think that we sleep.
func sessionSettings() []string {
	return append(settings(),
		"default_transaction_isolation = 'read committed'", "default_transaction_read_only = off",
		"tcp_keepalives_idle = 10", "tcp_keepalives_interval = 5", "tcp_keepalives_count = 3", "tcp_user_timeout = 30000")
}

func set(command string, list []string) string {
	return command + " " + strings.Join(list, ";"+command+" ") + ";"
}

func dial(ctx context.Context, cfg *pgx.ConnConfig) (*link, error) {
	l := &link{}
	cfg.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) { l.notified = true }
	var err error
	l.Conn, err = pgx.ConnectConfig(ctx, cfg)
	return l, err
}

// meet finds out who answers, and settles how to speak with it. Behind a pooler
// the process that answers is not the one that greeted us.
func (l *link) meet(ctx context.Context, cfg *pgx.ConnConfig) (*link, error) {
	var pid uint32
	err := l.QueryRow(ctx, "SELECT pg_backend_pid()", pgx.QueryExecModeExec).Scan(&pid)
	if err == nil && pid == l.PgConn().PID() {
		_, err = l.Exec(ctx, set("SET", sessionSettings()))
		if err == nil {
			return l, nil
		}
	}
	if gone := hangUp(ctx, l); err != nil || gone != nil {
		return nil, errors.Join(err, gone)
	}
	cfg = cfg.Copy()
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	if l, err = dial(ctx, cfg); err != nil {
		return nil, err
	}
	l.pooled = true
	return l, nil
}

const readCommitted = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE;"

// do runs statements of which each sees its own snapshot, with the settings.
func (l *link) do(ctx context.Context, f func() error) error {
	if !l.pooled {
		return f()
	}
	return l.transaction(ctx, readCommitted, f)
}

// snapshot runs statements that all see the same snapshot.
func (l *link) snapshot(ctx context.Context, f func() error) error {
	return l.transaction(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;", f)
}

func (l *link) transaction(ctx context.Context, begin string, f func() error) error {
	if l.pooled {
		begin += set("SET LOCAL", settings())
	}
	_, err := l.Exec(ctx, begin)
	if err == nil {
		err = l.same(ctx)
	}
	if err == nil {
		err = f()
	}
	if err != nil {
		if l.PgConn().TxStatus() != 'I' && !l.IsClosed() {
			_, back := l.Exec(ctx, "ROLLBACK")
			err = errors.Join(err, back)
		}
		return err
	}
	_, err = l.Exec(ctx, "COMMIT")
	return err
}

// historyExpression names what the keys of the log with oid $1 mean: the
// cluster, its timeline, the database and the table. The timeline is that of the
// file that is being written: the control file learns of a promotion only with
// the next checkpoint. It fails on a standby.
const historyExpression = `(SELECT system_identifier::text FROM pg_control_system())
         || '.' || left(pg_walfile_name(pg_current_wal_lsn()), 8)
         || '.' || (SELECT oid FROM pg_database WHERE datname = current_database()) || '.' || $1::oid`

var errElsewhere = errors.New("the pooler leads to another server now")

// same checks that a pooler still leads to the server that the reading began on.
func (l *link) same(ctx context.Context) error {
	if !l.pooled || l.history == "" {
		return nil
	}
	var now string
	if err := l.QueryRow(ctx, "SELECT "+historyExpression, l.table).Scan(&now); err != nil {
		return fmt.Errorf("look at the server behind the pooler: %w", err)
	}
	if now != l.history {
		return errElsewhere
	}
	return nil
}
