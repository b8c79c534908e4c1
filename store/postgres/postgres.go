// Package postgres keeps the state of the daemon, checkpoints, deliveries and what
// is known about endpoints, in a schema of its own of a PostgreSQL database: by
// default the one that is observed.
//
// # Durability
//
// A call that changes something returns nil only after its commit. Where the
// database has synchronous_commit = off, the store turns it on for its own
// transactions, because a commit that a crash takes back is a webhook or an
// email sent a second time. Other values, which say how many servers must have
// the commit, stay as the operator chose them.
//
// # Transactions
//
// Every change is one short transaction, sent with its BEGIN and COMMIT in one
// message, so it costs one round trip and is never left open by a daemon that
// dies. Deliveries that are stored or updated at the same time by concurrent
// callers share a transaction; when it fails, or meets somebody's lock, each is
// made alone. The transaction sets what it depends on by itself: read committed,
// read write, synchronous_commit, a statement timeout. Only where the server itself
// answers are prepared statements kept in the session, and is set for it that the
// server ends it within half a minute when this process is gone without a word. So
// the store works behind a pooler in transaction mode, without being told; there
// every statement is planned anew, about half of the work of the server when there
// is much to do. A default_query_exec_mode in the URL decides whether statements
// are kept.
//
// # Concurrency
//
// A Store may be used by any number of goroutines, and the schema by any number
// of Stores and processes. Claims pass over rows that another claim holds
// (SKIP LOCKED), and whoever changes a delivery is checked against its lease in
// the statement that changes it.
//
// A claim writes columns that no index holds, so PostgreSQL leaves the indexes
// alone. It looks only at the head of each queue, endpoint and priority, which
// stand in a table of their own. Somebody's old snapshot keeps the index entries
// of what was claimed before, so that the head would become longer and longer:
// after a thousand claims the store looks on from where it was, and from the very
// beginning now and then, once a minute at least. What others store with a due
// time in the past, and what they died holding, may therefore wait for up to a
// minute under load.
//
// # Lanes
//
// Whoever stores, finishes, requeues or removes a delivery of a lane holds an
// advisory lock of that lane until the end of the transaction, and decides in a
// later statement of it what is parked and what goes on. A process that dies in
// the middle leaves the lane as it was.
//
// # The cap on dead letters
//
// Their number is the sum of a few counters that triggers keep, and inserting
// one checks it. While there is room for a thousand more, inserts share an
// advisory lock and do not wait for each other: even if all connections of the
// server did so at once they could not pass the cap. Closer to it they take the
// lock alone, one after the other, and so the cap holds exactly. Nothing but
// dead letters touches the lock and the counters.
//
// # Outages
//
// A call that finds no server fails with an error that matches
// [ErrConnect], and later ones connect again. No call waits for longer than
// [Timeout], lists excepted, also when the network swallows the answer. Whether
// a change was made whose answer got lost is unknown, as ever; every change may
// be repeated.
//
// Connections that die without a word, because a firewall forgot them or because
// another server answers now, cost calls seconds and not their Timeout. The system
// probes connections and ends dead ones after six seconds, and what was not used for
// a second is asked whether it lives. The first connection that is found dead has all
// idle ones closed, and the server asked which of the calls that wait it still works
// on; the others fail. Leases are renewed over a connection of their own, and over up
// to three more when that does not answer soon, so renewing waits neither for dead
// connections nor for other calls.
//
// # Time
//
// Leases and due times follow the clock of the database, which all processes
// share. Times are stored in microseconds.
//
// # Texts
//
// Everything comes back byte for byte, numbers and spaces in JSON included.
// Texts that PostgreSQL cannot hold (a NUL character, invalid UTF-8) are stored
// escaped, as a row that begins with escaped:" shows. The one exception: invalid
// UTF-8 in the details and errors of attempts becomes U+FFFD.
package postgres

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	observer "github.com/fraiseql/observer"
)

// The defaults of [Config].
const (
	// DefaultSchema is where the tables are.
	DefaultSchema = "fraiseql_observer"
	// DefaultMaxDead is how many dead letters a store holds.
	DefaultMaxDead = 100_000
)

const (
	// Timeout bounds every call but the lists of deliveries and of their keys,
	// which take as long as their rows do, up to an hour.
	Timeout     = 30 * time.Second
	listTimeout = time.Hour
	// statementTimeout is what the server allows a change, in milliseconds: less
	// than Timeout, so that the reason is known.
	statementTimeout = "20000"
)

// Config says how to open a store. URL is required; the zero value of every
// other field is its default.
type Config struct {
	// URL is the connection string, a URL or keywords and values. Its
	// pool_max_conns bounds the connections (8), of which one is for renewing
	// leases, so there may be two even when it says 1. application_name is
	// fraiseql-observer unless it names another.
	URL observer.Secret
	// Schema holds the tables; "" is [DefaultSchema]. It may be any name.
	Schema string
	// MaxDead is how many dead letters the store holds before InsertDeliveries
	// gives [observer.ErrFull] for another; 0 is [DefaultMaxDead].
	MaxDead int
	// ReadOnly opens an existing store for looking at it, on a standby, too.
	// Nothing is created or migrated, and a database without a store is an
	// error that matches [observer.ErrNotFound].
	ReadOnly bool
	// Now is the clock, called concurrently; nil is the clock of the database.
	// It is meant for tests.
	Now func() time.Time
}

// Store is an [observer.StateStore] in PostgreSQL. Make one with [Open].
type Store struct {
	at       place
	pool     *pgxpool.Pool
	line     *line // by which leases are renewed
	health   *health
	schema   schema
	maxDead  int
	now      func() time.Time
	readOnly bool
	texts    encoding
	bands    *bands
	pruner   pruner
	dedup    dedup
	// The writers are nil when read-only.
	writer, deadWriter *writer
	close              func()
}

var _ observer.StateStore = (*Store)(nil)

// Open opens the store and brings its tables up to date when this role may do
// that; otherwise the error says who has to do what. Tables that a newer
// release has migrated are refused. The context bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.MaxDead < 0 {
		return nil, fmt.Errorf("open state store: the cap on dead letters is %d, want at least 1 (or 0 for %d)", cfg.MaxDead, DefaultMaxDead)
	}
	if cfg.MaxDead == 0 {
		cfg.MaxDead = DefaultMaxDead
	}
	name, err := newSchema(cfg.Schema)
	if err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	s := &Store{schema: name, maxDead: cfg.MaxDead, now: cfg.Now, readOnly: cfg.ReadOnly, bands: newBands()}
	s.dedup = s.newDedup()
	if err := s.open(ctx, cfg.URL.Reveal()); err != nil {
		return nil, fmt.Errorf("open state store: %w", err)
	}
	if !s.readOnly {
		silent := s.at.silent(Timeout)
		s.writer, s.deadWriter = newWriter(ctx, s.commitOps, silent), newWriter(ctx, s.commitDead, silent)
	}
	s.close = sync.OnceFunc(s.shut)
	return s, nil
}

func (s *Store) open(ctx context.Context, url string) error {
	config, err := poolConfig(url, s.readOnly)
	if err != nil {
		return err
	}
	s.at = placeOf(config.ConnConfig)
	s.health = newHealth(ctx, config.ConnConfig)
	s.health.watch(config)
	s.line = newLine(ctx, config.ConnConfig, s.health)
	// The pool outlives the opening: it ends with Close, not with ctx.
	s.pool, err = pgxpool.NewWithConfig(context.WithoutCancel(ctx), config)
	if err != nil {
		return s.at.explain(err)
	}
	s.health.begin(s.pool)
	if err := s.prepare(ctx, url); err != nil {
		s.disconnect()
		return err
	}
	return nil
}

// prepare checks what is in the database, and migrates it if need be.
func (s *Store) prepare(ctx context.Context, url string) error {
	if err := s.query(ctx, func(ctx context.Context) error {
		var serverEncoding string
		err := s.row(ctx, "SELECT current_setting('server_encoding')").Scan(&serverEncoding)
		s.texts.ascii = serverEncoding != "UTF8" && serverEncoding != "SQL_ASCII"
		return err
	}); err != nil {
		return err
	}
	if err := s.checkVersion(ctx, url); err != nil {
		return err
	}
	if err := s.query(ctx, s.checkRights); err != nil || s.readOnly {
		return err
	}
	if err := s.fillPrints(ctx); err != nil {
		return err
	}
	s.pool.Reset() // the connections from now on know who answers
	return nil
}

// Close waits for the calls under way and closes the connections.
func (s *Store) Close() error {
	s.close()
	return nil
}

func (s *Store) shut() {
	if s.writer != nil {
		s.writer.shut()
		s.deadWriter.shut()
	}
	s.disconnect()
}

func (s *Store) disconnect() {
	s.health.close()
	s.line.close()
	s.pool.Close()
}

// clock is the time by which leases and due times are judged, in statements
// whose first parameter is that of a test, or NULL.
const clock = "coalesce($1::timestamptz, clock_timestamp())"

// clockNow is the argument for clock.
func (s *Store) clockNow() any {
	if s.now == nil {
		return nil
	}
	return s.now()
}

// time is for what is done now and then: the progress of the clock counts.
func (s *Store) time() time.Time {
	if s.now == nil {
		return time.Now()
	}
	return s.now()
}

// row runs a query for one row.
func (s *Store) row(ctx context.Context, sql string, args ...any) pgx.Row {
	return s.pool.QueryRow(ctx, s.schema.in(sql), args...)
}

// query bounds the time of a call and explains its error.
func (s *Store) query(ctx context.Context, run func(context.Context) error) error {
	return s.bounded(ctx, Timeout, run)
}

func (s *Store) bounded(ctx context.Context, limit time.Duration, run func(context.Context) error) error {
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := run(limited)
	switch {
	case err == nil || errors.Is(err, observer.ErrNotFound):
		return err
	case ctx.Err() != nil:
		return ctx.Err() // whatever else went wrong then, this came first
	case limited.Err() != nil:
		return s.at.silent(limit)
	}
	return s.at.explain(err)
}

// notFound turns the absence of a row into the answer it is.
func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return observer.ErrNotFound
	}
	return err
}
