package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	observer "github.com/fraiseql/observer"
)

// ErrConnect means that the database cannot be reached, or lets nobody in.
// Trying again later can help.
var ErrConnect = errors.New("no connection to the state store")

// missingError is a store that is not there (yet). It matches
// [observer.ErrNotFound].
type missingError struct{ text string }

func (e *missingError) Error() string { return e.text }

func (e *missingError) Is(target error) bool { return target == observer.ErrNotFound }

// explained is an error in words of our own. Those of the driver span lines.
type explained struct {
	text  string
	cause error // what the driver said; may be nil
	kind  error // what callers branch on; may be nil
}

func (e *explained) Error() string { return e.text }

func (e *explained) Unwrap() error { return e.cause }

func (e *explained) Is(target error) bool { return e.kind != nil && target == e.kind }

// place says where the store is, without the password.
type place struct{ hosts, database, user string }

func placeOf(config *pgx.ConnConfig) place {
	var hosts []string
	add := func(host string, port uint16) {
		text := net.JoinHostPort(host, strconv.FormatUint(uint64(port), 10))
		if strings.HasPrefix(host, "/") {
			text = fmt.Sprintf("socket %s/.s.PGSQL.%d", host, port)
		}
		if !slices.Contains(hosts, text) {
			hosts = append(hosts, text)
		}
	}
	add(config.Host, config.Port)
	for _, f := range config.Fallbacks {
		add(f.Host, f.Port)
	}
	database := config.Database
	if database == "" {
		database = config.User // the server's default
	}
	return place{hosts: strings.Join(hosts, ", "), database: database, user: config.User}
}

func (p place) String() string { return "database " + p.database + " on " + p.hosts }

// silent is the error for an answer that does not come.
func (p place) silent(limit time.Duration) error {
	return p.unreachable(fmt.Sprintf("gave no answer within %s", limit), "check the network and what its sessions wait for (pg_stat_activity)", nil)
}

func (p place) unreachable(what, advice string, cause error) error {
	return &explained{text: fmt.Sprintf("%s %s; %s", p, what, advice), cause: cause, kind: ErrConnect}
}

func (p place) refused(what, advice string, cause error) error {
	return &explained{text: fmt.Sprintf("%s: %s; %s", p, what, advice), cause: cause}
}

// explain says where it happened and what to do about it. Answers, ends of the
// caller's context and errors that are explained already stay as they are.
func (p place) explain(err error) error {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, observer.ErrNotFound) {
		return err
	}
	if _, done := errors.AsType[*explained](err); done {
		return err
	}
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return p.explainAnswer(answer, err)
	}
	_, connecting := errors.AsType[*pgconn.ConnectError](err)
	_, network := errors.AsType[net.Error](err)
	switch {
	case !connecting && errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, errSilent):
		return p.unreachable("fell silent", "check the network", err)
	case connecting || network || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.Is(err, net.ErrClosed) || errors.Is(err, pgconn.ErrConnClosed):
		return p.unreachable("cannot be reached: "+cause(err), "check that PostgreSQL runs there and that the URL is right", err)
	}
	return fmt.Errorf("%s: %w", p, err)
}

// explainAnswer is about an error that the server sent.
func (p place) explainAnswer(e *pgconn.PgError, err error) error {
	switch e.Code {
	case "28P01", "28000":
		return p.unreachable("lets user "+p.user+" not in: "+e.Message, "check user and password in the URL, and pg_hba.conf of the server", err)
	case "3D000":
		return p.unreachable("does not exist", "create it, or correct the URL", err)
	case "53300":
		return p.unreachable("has no connection left: "+e.Message, "end other sessions, raise max_connections, or lower pool_max_conns in the URLs", err)
	case "42501":
		return p.refused(e.Message, "grant it to "+p.user+", or use another role", err)
	case "25006":
		return p.refused(e.Message, "it is a standby or was made read-only; give the URL of the primary", err)
	case "53100":
		return p.refused(e.Message, "nothing was stored, free space on the disk of the server", err)
	case "57014":
		return p.refused(e.Message, "find what it waited for in pg_stat_activity and pg_locks", err)
	case "3F000", "42P01", "42703":
		return p.refused(e.Message, "the tables of the state store were changed or dropped; run: fraiseql-observer migrate", err)
	}
	switch e.Code[:2] {
	case "08", "57":
		return p.unreachable("ended the connection: "+e.Message, "wait until it has started, or look into its log", err)
	}
	return p.refused(e.Message, "its log may say more (SQLSTATE "+e.Code+")", err)
}

// cause is the innermost reason in one line.
func cause(err error) string {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		return errno.Error()
	}
	if dns, ok := errors.AsType[*net.DNSError](err); ok {
		return "host " + dns.Name + ": " + dns.Err
	}
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return strings.Join(strings.Fields(err.Error()), " ")
		}
		err = inner
	}
}
