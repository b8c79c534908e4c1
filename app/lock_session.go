package app

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/topology"
)

const (
	// sessionCheck is the time between two questions whether the session is
	// there, and the patience with each answer. A connection that is closed is
	// noticed at once; this finds one whose other end is gone.
	sessionCheck = 5 * time.Second
	// A daemon that was killed a moment ago may still hold the lock.
	sessionTries = 20
	sessionPause = 100 * time.Millisecond
)

// sessionLock is the lock of a state in PostgreSQL: an advisory lock of a
// connection of its own. It keeps a second daemon out and is no lease: between
// the loss of the connection and its notice, which takes up to two
// sessionChecks, another daemon may take the lock and read beside this one.
type sessionLock struct {
	state  config.State
	logger *slog.Logger
	conn   *pgx.Conn
	// closing is for the end, when every other context is over.
	closing context.Context
	// pooled: the connection is not a session of ours, so there is no lock.
	pooled bool
}

// sessionKey is the advisory lock of a state. They are apart by database.
func sessionKey(state config.State) int64 {
	sum := sha256.Sum256([]byte("fraiseql observer daemon " + state.Schema))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits are a key
}

func acquireSession(ctx context.Context, state config.State, logger *slog.Logger) (lock, error) {
	l := &sessionLock{state: state, logger: logger, closing: context.WithoutCancel(ctx)}
	for try := 1; ; try++ {
		err := l.take(ctx)
		if err == nil {
			return l, nil
		}
		if !errors.Is(err, ErrRunning) || try == sessionTries || !backoff.Wait(ctx, nil, sessionPause) {
			return nil, err
		}
	}
}

// take connects and takes the lock. An error that matches ErrRunning means that
// another session holds it.
func (l *sessionLock) take(ctx context.Context) error {
	var before uint32
	if l.conn != nil {
		before = l.conn.PgConn().PID()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*sessionCheck)
	defer cancel()
	conn, err := connectState(ctx, l.state)
	if err != nil {
		return err
	}
	if err := l.lock(ctx, conn, before); err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	l.conn = conn
	return nil
}

// lock takes the lock on a fresh connection. before is the process that served
// the one before it: where the server has not noticed that its client is gone, it
// is ended.
func (l *sessionLock) lock(ctx context.Context, conn *pgx.Conn, before uint32) error {
	var pid uint32
	if err := conn.QueryRow(ctx, "SELECT pg_backend_pid()").Scan(&pid); err != nil {
		return fmt.Errorf("lock the state in %s: %w", l.state.Place(), err)
	}
	if pid != conn.PgConn().PID() {
		l.pooled = true
		l.logger.Warn("the state is reached through a pooler, which keeps no session: a second daemon would not be noticed; "+
			"give [state] url the address of the server itself", "state", l.state.Place())
		return nil
	}
	const query = `SELECT pg_try_advisory_lock($1), coalesce((SELECT min(pid) FROM pg_locks WHERE ` + lockIsHeld + `), 0)`
	var taken bool
	var holder uint32
	if err := conn.QueryRow(ctx, query, sessionKey(l.state)).Scan(&taken, &holder); err != nil {
		return fmt.Errorf("lock the state in %s: %w", l.state.Place(), err)
	}
	if taken {
		return nil
	}
	if before != 0 && holder == before {
		if _, err := conn.Exec(ctx, "SELECT pg_terminate_backend($1)", holder); err != nil {
			return fmt.Errorf("end the former session %d in %s: %w", holder, l.state.Place(), err)
		}
		return errFormer
	}
	return fmt.Errorf("%w with the state in %s (process %d of the server); stop it, or give this one another [state] schema",
		ErrRunning, l.state.Place(), holder)
}

// errFormer: our own former session held the lock, and ends now.
var errFormer = errors.New("the former session is being ended")

// lockIsHeld finds the lock whose key is $1 in pg_locks.
const lockIsHeld = `locktype = 'advisory' AND granted AND objsubid = 1
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
	AND classid::bigint = ($1::bigint >> 32) & 4294967295 AND objid::bigint = $1::bigint & 4294967295`

// keep shuts the gate when the session is lost, and opens it when the lock is
// held by a new one.
func (l *sessionLock) keep(ctx context.Context, gate *topology.Gate) error {
	for !l.pooled {
		lost := l.watch(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the session ends because ctx does
		}
		gate.Shut()
		l.logger.Error("the lock on the state is lost with its connection; reading stops until it is held again",
			"state", l.state.Place(), "error", lost)
		if err := l.retake(ctx); err != nil || ctx.Err() != nil {
			return err
		}
		gate.Open()
		l.logger.Info("the lock on the state is held again; reading goes on", "state", l.state.Place())
	}
	<-ctx.Done()
	return nil
}

// watch blocks until the session is lost, and says why, or ctx ends.
func (l *sessionLock) watch(ctx context.Context) error {
	for ctx.Err() == nil {
		quiet, cancel := context.WithTimeout(ctx, sessionCheck)
		_, err := l.conn.WaitForNotification(quiet) // nothing notifies: it ends with quiet or the connection
		over := quiet.Err() != nil
		cancel()
		if err != nil && !over {
			return err
		}
		if err := l.ask(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *sessionLock) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, sessionCheck)
	defer cancel()
	return l.conn.Ping(ctx)
}

// retake tries until the lock is held again or ctx ends. It gives up when another
// daemon has it.
func (l *sessionLock) retake(ctx context.Context) error {
	patience := backoff.Policy{Kind: backoff.Exponential, Initial: sessionPause, Max: sessionCheck}
	for failures, running := 1, 0; ; failures++ {
		err := l.take(ctx)
		if err == nil {
			return nil
		}
		if errors.Is(err, ErrRunning) {
			if running++; running == sessionTries {
				return err
			}
		} else {
			running = 0
			l.logger.Warn("the lock on the state cannot be taken; trying again", "error", err, "failures", failures)
		}
		wait := patience.Delay(failures)
		if running > 0 {
			wait = sessionPause
		}
		if !backoff.Wait(ctx, nil, wait) {
			return nil
		}
	}
}

// release ends the session. Where that fails the session is gone already.
func (l *sessionLock) release() error {
	ctx, cancel := context.WithTimeout(l.closing, sessionCheck)
	defer cancel()
	_ = l.conn.Close(ctx)
	return nil
}

func sessionHeld(ctx context.Context, state config.State) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*sessionCheck)
	defer cancel()
	conn, err := connectState(ctx, state)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	err = conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_locks WHERE "+lockIsHeld+")", sessionKey(state)).Scan(&held)
	return held, err
}

// connectState opens a connection whose loss both ends notice soon. Its errors
// have one line and no password.
func connectState(ctx context.Context, state config.State) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(state.URL.Reveal())
	if err != nil {
		return nil, errors.New("the URL of the state store cannot be read")
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "fraiseql-observer lock"
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec // nothing is prepared, for the sake of poolers
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to the state store %s: %s", state.Place(), strings.Join(strings.Fields(err.Error()), " "))
	}
	const session = `SELECT set_config(name, value, false) FROM pg_settings JOIN (VALUES
		('tcp_keepalives_idle', '10'), ('tcp_keepalives_interval', '5'), ('tcp_keepalives_count', '3'), ('idle_session_timeout', '0')
		) AS wanted (name, value) USING (name)`
	if _, err := conn.Exec(ctx, session); err != nil {
		return nil, errors.Join(fmt.Errorf("prepare the lock on the state in %s: %w", state.Place(), err), conn.Close(ctx))
	}
	return conn, nil
}
