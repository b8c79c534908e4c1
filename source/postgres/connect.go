package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// statementPatience bounds one statement of the reader. All of them use an
	// index and end in milliseconds, so a longer one hangs: on a peer that is
	// gone, or behind a lock on the table.
	statementPatience = 30 * time.Second
	// goodbye bounds the closing of a connection.
	goodbye = 3 * time.Second
)

// connect opens one connection and sets what the reader relies on.
func (s *Source) connect(ctx context.Context) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(s.cfg.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConnect, err) // pgx leaves the password out
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "fraiseql-observer"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrConnect, where(cfg), cause(err))
	}
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	if _, err := conn.Exec(ctx, session); err != nil {
		return nil, errors.Join(fmt.Errorf("%w at %s: %w", ErrConnect, where(cfg), cause(err)), hangUp(ctx, conn))
	}
	return conn, nil
}

// session is what the reader relies on, whatever the database or the role has
// for defaults.
//
// Each statement must see its own snapshot. Row-level security must be an error
// and not an answer without the rows. The queries are right only by the index
// on the key: while the table has no statistics yet, the planner might choose
// otherwise and stay with it.
const session = `SET default_transaction_isolation = 'read committed';
SET default_transaction_read_only = off;
SET row_security = off;
SET enable_seqscan = off;
SET enable_bitmapscan = off;
SET max_parallel_workers_per_gather = 0;
SET plan_cache_mode = force_generic_plan;
SET jit = off`

// where names a server for people, without user or password.
func where(cfg *pgx.ConnConfig) string {
	return net.JoinHostPort(cfg.Host, strconv.Itoa(int(cfg.Port))) + "/" + cfg.Database
}

// cause is the reason of a failed connection without the list of addresses that
// pgx puts around it.
func cause(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return server
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if inner := errors.Unwrap(connect); inner != nil {
			return inner
		}
	}
	return err
}

// failed wraps an error once, and says what to do where that is known.
func (s *Source) failed(doing string, err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch server.Code {
		case "42501": // insufficient_privilege
			if server.Message == "query would be affected by row-level security policy for table \""+s.cfg.Log.Table+"\"" {
				return fmt.Errorf("%s of %s: %w: %s", doing, s.cfg.Name, ErrHidden, hiddenAdvice)
			}
			return fmt.Errorf("%s of %s: %w: %s", doing, s.cfg.Name, ErrDenied, server.Message)
		case "42P01", "3F000": // undefined_table, invalid_schema_name
			return fmt.Errorf("%s of %s: %s (is the change log gone?)", doing, s.cfg.Name, server.Message)
		}
	}
	return fmt.Errorf("%s of %s: %w", doing, s.cfg.Name, err)
}

// hangUp closes a connection, also when ctx is over.
func hangUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		return fmt.Errorf("close the connection: %w", err)
	}
	return nil
}
