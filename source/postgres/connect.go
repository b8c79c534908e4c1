package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

const (
	// statementPatience bounds one statement of the reader. All of them use an
	// index and end in milliseconds, so a longer one hangs: on a peer that is
	// gone, or behind a lock on the table.
	statementPatience = 30 * time.Second
	// longPatience bounds the statements that look at every row of a backlog or of
	// a partition.
	longPatience = 10 * time.Minute
	// goodbye bounds the closing of a connection.
	goodbye = 3 * time.Second
)

// connect opens one connection and sets what the reader relies on.
func (s *Source) connect(ctx context.Context) (*link, error) {
	cfg, err := pgx.ParseConfig(s.cfg.URL.Reveal())
	if err != nil {
		return nil, fmt.Errorf("%w: the URL of %s %w", ErrConnect, s.cfg.Name, unreadable(err))
	}
	if cfg.RuntimeParams["application_name"] == "" {
		cfg.RuntimeParams["application_name"] = "fraiseql-observer"
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = 10 * time.Second
	}
	l, err := s.dial(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrConnect, where(cfg), cause(err))
	}
	return l, nil
}

var errURL = errors.New("cannot be read; want postgres://user:password@host:port/database, with special characters of the password as %XX")

// unreadable is what may be told of a URL that was not understood: the cause
// often repeats it, password included.
func unreadable(err error) error {
	if file, ok := errors.AsType[*fs.PathError](err); ok {
		return fmt.Errorf("names a file: %w", file)
	}
	return errURL
}

func (s *Source) dial(ctx context.Context, cfg *pgx.ConnConfig) (*link, error) {
	l, err := dial(ctx, cfg)
	if err != nil {
		return nil, err
	}
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	l, err = l.meet(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// patiently bounds what the server is asked to do at once.
func (s *Source) patiently(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.patience)
}

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
			if strings.HasPrefix(server.Message, "query would be affected by row-level security policy") {
				return fmt.Errorf("%s of %s: %w: %s", doing, s.cfg.Name, ErrHidden, hiddenAdvice)
			}
			return fmt.Errorf("%s of %s: %w: %s", doing, s.cfg.Name, ErrDenied, server.Message)
		case "42P01", "3F000": // undefined_table, invalid_schema_name
			return fmt.Errorf("%s of %s: %s (is the change log gone?)", doing, s.cfg.Name, server.Message)
		}
	}
	if errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, ErrConnect) {
		return fmt.Errorf("%s of %s: the server gave no answer in time, so the connection is lost or the table is locked: %w", doing, s.cfg.Name, err)
	}
	return fmt.Errorf("%s of %s: %w", doing, s.cfg.Name, err)
}

// hangUp closes a connection, also when ctx is over. One that was given up in
// the middle of a statement takes a moment to tell the server so.
func hangUp(ctx context.Context, l *link) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	err := l.Close(ctx)
	select {
	case <-l.PgConn().CleanupDone():
	case <-ctx.Done():
	}
	if err != nil {
		return fmt.Errorf("close the connection: %w", err)
	}
	return nil
}
