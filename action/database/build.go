package database

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const (
	defaultConnections = 4
	maxConnections     = 100
	// maxIdentifier is the length of a PostgreSQL name in bytes.
	maxIdentifier = 63
	idleTime      = time.Minute
	// cancelTime is how long a function that was cancelled has to say so before
	// its connection is given up.
	cancelTime = time.Second
	// closeTime is how long closing the pool may wait for a server.
	closeTime = time.Second
)

// Dial connects to the database server.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// New makes an action that connects by dial when it first runs. An invalid
// configuration gives [observer.FieldError]s, joined.
func New(cfg Config, dial Dial) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	function, functionErr := quoteFunction(cfg.FunctionName)
	params, paramsErr := compileParams(templates, cfg.Params)
	pool, urlErr := poolConfig(cfg)
	err = errors.Join(outbound.Invalid("url", urlErr), outbound.Invalid("function_name", functionErr), outbound.Invalid("params", paramsErr),
		checkLimits(cfg))
	if err != nil {
		return nil, err
	}
	server := pool.ConnConfig
	redactor := cfg.Redactor.With(cfg.URL, observer.NewSecret(server.Password))
	place := net.JoinHostPort(server.Host, strconv.Itoa(int(server.Port)))
	return &Action{
		function: function, params: params, limit: cfg.StatementTimeout, redactor: redactor,
		place:    place,
		endpoint: outbound.Endpoint(redactor, "database", place, "/"+server.Database, false),
		pool:     connection.New(func(ctx context.Context) (*client, error) { return newClient(ctx, pool, dial) }, (*client).close, nil),
	}, nil
}

func checkLimits(cfg Config) error {
	var timeout, connections error
	if cfg.StatementTimeout < 0 {
		timeout = errors.New("must not be negative")
	}
	if cfg.MaxConnections < 0 || cfg.MaxConnections > maxConnections {
		connections = fmt.Errorf("must be from 1 to %d", maxConnections)
	}
	return errors.Join(outbound.Invalid("statement_timeout", timeout), outbound.Invalid("max_connections", connections))
}

// client is a pool and the connections that it has.
type client struct {
	pool  *pgxpool.Pool
	conns *connection.Tracker
}

func newClient(ctx context.Context, cfg *pgxpool.Config, dial Dial) (*client, error) {
	c := &client{conns: connection.NewTracker(connection.Dial(dial))}
	cfg = cfg.Copy()
	cfg.ConnConfig.DialFunc = c.conns.DialContext
	var err error
	c.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), cfg)
	return c, err
}

// close closes the pool. A connection whose server is silent would hold that up
// for long.
func (c *client) close() {
	timer := time.AfterFunc(closeTime, c.conns.Cut)
	defer timer.Stop()
	c.pool.Close()
}

var identifier = regexp.MustCompile(`^[\p{L}_][\p{L}\p{N}_$]*$`)

// quoteFunction checks the name and writes it for a statement.
func quoteFunction(name string) (string, error) {
	if name == "" {
		return "", errors.New("is required")
	}
	parts := strings.Split(name, ".")
	if len(parts) > 2 {
		return "", errors.New("must be a function, or schema.function")
	}
	for _, part := range parts {
		switch {
		case !identifier.MatchString(part):
			return "", fmt.Errorf("%q is not a name of letters, digits, _ and $ (write no quotes and no arguments)", part)
		case len(part) > maxIdentifier:
			return "", fmt.Errorf("%q has more than %d bytes", part, maxIdentifier)
		}
	}
	return pgx.Identifier(parts).Sanitize(), nil
}

func compileParams(templates *template.Compiler, src string) (*template.Template, error) {
	if src == "" {
		return nil, nil //nolint:nilnil // without a template there is one argument, the event
	}
	if begin := strings.TrimSpace(src); strings.HasPrefix(begin, "{{") || begin[:min(1, len(begin))] != "[" && begin[:min(1, len(begin))] != "{" {
		return nil, errors.New(`must be a JSON list of the arguments, such as [{{ data.id }}, {{ data }}], or an object of named ones`)
	}
	return templates.Compile(src, template.JSON)
}

// poolConfig never repeats the URL in its errors: it is a secret.
func poolConfig(cfg Config) (*pgxpool.Config, error) {
	if cfg.URL.IsZero() {
		return nil, errors.New("is required")
	}
	u, err := url.Parse(cfg.URL.Reveal())
	if err != nil || u.Scheme != "postgres" && u.Scheme != "postgresql" || u.Hostname() == "" {
		return nil, errors.New("is not the URL of a PostgreSQL database (postgres://user:password@host:port/name)")
	}
	pool, err := pgxpool.ParseConfig(cfg.URL.Reveal())
	if err != nil {
		return nil, errors.New("is not the URL of a PostgreSQL database: a port or a parameter in it cannot be read")
	}
	pool.MaxConns = int32(cmp.Or(max(0, min(cfg.MaxConnections, maxConnections)), defaultConnections)) //nolint:gosec // at most 100
	pool.MinConns, pool.MinIdleConns = 0, 0
	pool.MaxConnIdleTime = idleTime
	server := pool.ConnConfig
	// The dialer looks the name up itself, and judges every address it leads to.
	server.LookupFunc = func(_ context.Context, host string) ([]string, error) { return []string{host}, nil }
	server.BuildContextWatcherHandler = func(conn *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: conn, DeadlineDelay: cancelTime}
	}
	if server.RuntimeParams["application_name"] == "" {
		server.RuntimeParams["application_name"] = "fraiseql-observer"
	}
	return pool, nil
}
