package postgres

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	applicationName = "fraiseql-observer"
	// maxConns is enough for the daemon's worker, its relays and its status at
	// the same time: connections are dear in PostgreSQL, and calls are short.
	maxConns       = 8
	connectTimeout = 10 * time.Second
	// cancelTimeout is how long a call whose context ended waits for the server
	// to end what it does for it.
	cancelTimeout = time.Second
)

// errURL says nothing of what was read, for a part of it is a password.
var errURL = errors.New("the URL of the state store cannot be read; it has the form postgres://user:password@host:5432/database, " +
	"with other characters than letters and digits in the password written as %XX")

// poolConfig reads a connection string. Its errors do not repeat it.
func poolConfig(url string, readOnly bool) (*pgxpool.Config, error) {
	if url == "" {
		return nil, errors.New("the URL of the state store is empty; it has the form postgres://user:password@host:5432/database")
	}
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errURL
	}
	if !strings.Contains(url, "pool_max_conns") {
		config.MaxConns = maxConns
	}
	if !readOnly {
		config.MaxConns = max(1, config.MaxConns-1) // the other one is the line
	}
	if !strings.Contains(url, "pool_max_conn_idle_time") {
		config.MaxConnIdleTime = 5 * time.Minute
	}
	if !strings.Contains(url, "default_query_exec_mode") {
		meet(config)
	}
	configure(config.ConnConfig, url)
	if config.ConnConfig.ValidateConnect == nil && !readOnly {
		// After a failover the old primary may answer, as a standby.
		config.ConnConfig.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsPrimary
	}
	return config, nil
}

// connConfig is poolConfig for one connection.
func connConfig(url string) (*pgx.ConnConfig, error) {
	config, err := poolConfig(url, false)
	if err != nil {
		return nil, err
	}
	return config.ConnConfig, nil
}

// configure sets only what every pooler passes on.
func configure(config *pgx.ConnConfig, url string) {
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = applicationName
	}
	config.RuntimeParams["client_encoding"] = "UTF8"
	config.DialFunc = dialer().DialContext
	// A change that its caller gave up must not be made later, when what it
	// waited for is over: its COMMIT has been sent with it. So it is canceled,
	// and the call ends when the server has answered that.
	config.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTimeout}
	}
	if !strings.Contains(url, "default_query_exec_mode") {
		config.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	}
}

// errPooled ends a connection that turns out to lead through a pooler.
var errPooled = errors.New("a pooler stands in front of the server now")

// meet has connections find out who answers. Where that is the process that
// greeted us no pooler stands between, and the later connections keep prepared
// statements in their sessions: planning takes most of the time of a small change.
func meet(config *pgxpool.Config) {
	var direct atomic.Bool
	config.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		if direct.Load() {
			c.DefaultQueryExecMode = pgx.QueryExecModeCacheStatement
		}
		return nil
	}
	config.AfterConnect = func(ctx context.Context, c *pgx.Conn) error {
		is, err := greet(ctx, c)
		if err != nil {
			return err
		}
		direct.Store(is)
		if !is && c.Config().DefaultQueryExecMode == pgx.QueryExecModeCacheStatement {
			return errPooled
		}
		return nil
	}
}

// greeting asks for the process that answers. The one that greeted us is to end its
// session soon when we are gone without a word, for till then it counts.
const greeting = `
SELECT pg_backend_pid()::bigint, CASE pg_backend_pid() WHEN $1::bigint THEN ARRAY[
    set_config('tcp_keepalives_idle', '10', false), set_config('tcp_keepalives_interval', '5', false),
    set_config('tcp_keepalives_count', '3', false), set_config('tcp_user_timeout', '30000', false)] END`

// greet reports whether no pooler stands between a connection and the server.
func greet(ctx context.Context, c *pgx.Conn) (direct bool, err error) {
	var pid uint32
	err = c.QueryRow(ctx, greeting, pgx.QueryExecModeExec, int64(c.PgConn().PID())).Scan(&pid, nil)
	return pid == c.PgConn().PID(), err
}

// schema is the name of the schema with the tables.
type schema struct{ name string }

func newSchema(name string) (schema, error) {
	switch {
	case name == "":
		return schema{DefaultSchema}, nil
	case len(name) > 63:
		return schema{}, fmt.Errorf("the name of the schema has %d bytes, PostgreSQL allows 63: %.63s", len(name), name)
	case strings.ContainsRune(name, 0), strings.Contains(name, "$fraiseql_"):
		return schema{}, fmt.Errorf("the schema cannot be called %q", name)
	}
	return schema{name}, nil
}

// String is the name as SQL writes it.
func (s schema) String() string { return pgx.Identifier{s.name}.Sanitize() }

// in puts the name where a statement has {{schema}}.
func (s schema) in(sql string) string { return strings.ReplaceAll(sql, "{{schema}}", s.String()) }

// lockID is the key of an advisory lock that belongs to the schema.
func (s schema) lockID(purpose string) int64 {
	sum := sha256.Sum256([]byte("fraiseql observer " + purpose + " " + s.name))
	return int64(binary.BigEndian.Uint64(sum[:8])) //nolint:gosec // any 64 bits will do
}
