package doctor

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// ErrConnect means that the server cannot be reached, refuses the login or ended
// the connection.
var ErrConnect = errors.New("cannot connect to PostgreSQL")

// Examine makes every check. It returns an error, which matches [ErrConnect] when
// the server is the reason, only when it cannot go on; what is wrong with the
// database is in the report. It may be called concurrently.
func Examine(ctx context.Context, o Options) (_ Report, err error) {
	o = o.withDefaults()
	conn, err := connect(ctx, o.URL.Reveal())
	if err != nil {
		return Report{}, err
	}
	defer func() { err = errors.Join(err, hangUp(ctx, conn)) }()
	x := &examination{Options: o, conn: conn, report: Report{Database: where(conn.Config()), Role: conn.Config().User, Log: o.Log.String()}}
	for _, c := range checks() {
		if c.log && x.log == nil {
			continue
		}
		if err := x.make(ctx, c); err != nil {
			return x.report, err
		}
	}
	return x.report, nil
}

// examination is one call of Examine.
type examination struct {
	Options

	conn   *pgx.Conn
	report Report
	// check is the name of the check that is being made.
	check string

	// What the first checks find out for the later ones. role, schema and table
	// are quoted where SQL wants it.
	role, schema, table string
	// sees: the role may see what other sessions do.
	sees bool
	// log is nil when there is no change log.
	log *changelog.Layout
}

func (x *examination) add(level Level, what, do string) {
	x.report.Findings = append(x.report.Findings, Finding{Check: x.check, Level: level, What: what, Do: do})
}

func (x *examination) ok(format string, args ...any) { x.add(OK, fmt.Sprintf(format, args...), "") }

// make makes one check. One that fails is a note.
func (x *examination) make(ctx context.Context, c check) error {
	x.check = c.name
	ctx, cancel := context.WithTimeout(ctx, checkPatience)
	defer cancel()
	var err error
	if c.bare {
		err = c.run(x, ctx)
	} else {
		err = x.within(ctx, c)
	}
	server, ok := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		return nil
	case ok && !x.conn.IsClosed():
		x.add(Note, "this could not be checked: "+server.Message, unable(server.Code))
		return nil
	}
	return fmt.Errorf("%w at %s while checking %s: %w", ErrConnect, x.report.Database, c.name, err)
}

// checkPatience bounds a check when the server does not.
const checkPatience = 30 * time.Second

// within runs a check in a transaction that cannot write, in which the settings
// end with it: a pooler would pass settings of the session on to others.
func (x *examination) within(ctx context.Context, c check) error {
	const begin = "BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; " +
		"SET LOCAL statement_timeout = '10s'; SET LOCAL lock_timeout = '2s'; SET LOCAL row_security = off"
	if _, err := x.conn.Exec(ctx, begin, pgx.QueryExecModeSimpleProtocol); err != nil {
		return err
	}
	err := c.run(x, ctx)
	if _, ended := x.conn.Exec(ctx, "ROLLBACK"); ended != nil {
		return errors.Join(err, ended)
	}
	return err
}

func unable(code string) string {
	switch code {
	case "42501": // insufficient_privilege
		return "ask as a role that may, such as a member of pg_monitor"
	case "55P03", "57014": // lock_not_available, query_canceled
		return "somebody holds a lock that this needs, or the server is slow: ask again"
	}
	return "look at the message, and ask again"
}

const (
	connectTimeout = 10 * time.Second
	goodbye        = 3 * time.Second
)

// connect opens a connection with which a pooler can deal, too.
func connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// The cause may repeat the URL, password included.
		return nil, errors.New("the URL of the database cannot be read (want postgres://user:password@host:port/database)")
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	if config.ConnectTimeout == 0 {
		config.ConnectTimeout = connectTimeout
	}
	if config.RuntimeParams["application_name"] == "" {
		config.RuntimeParams["application_name"] = "fraiseql-observer doctor"
	}
	conn, err := pgx.ConnectConfig(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("%w at %s: %w", ErrConnect, where(config), cause(err))
	}
	return conn, nil
}

// where names a database for people, without user or password.
func where(c *pgx.ConnConfig) string { return fmt.Sprintf("%s:%d/%s", c.Host, c.Port, c.Database) }

// cause is the reason of a failed connection without the list of addresses that
// pgx puts around it.
func cause(err error) error {
	if server, ok := errors.AsType[*pgconn.PgError](err); ok {
		return server
	}
	if connect, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		if inner := errors.Unwrap(connect); inner != nil {
			return inner
		}
	}
	return err
}

// hangUp closes a connection, also when ctx is over.
func hangUp(ctx context.Context, conn *pgx.Conn) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbye)
	defer cancel()
	// It only looked: how the connection ends makes no difference.
	_ = conn.Close(ctx)
	return nil
}
