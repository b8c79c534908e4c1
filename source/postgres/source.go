package postgres

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Errors that callers branch on. [changelog.ErrNoLog] is one more.
var (
	// ErrConnect: the server cannot be reached, or refuses the login.
	ErrConnect = errors.New("cannot connect to PostgreSQL")
	// ErrStandby: the server is a standby. Its sequences say nothing about
	// transactions that are running on the primary.
	ErrStandby = errors.New("the server is a standby")
	// ErrSequenceCache: sessions draw keys in advance, so that the order of keys
	// is not the order of changes.
	ErrSequenceCache = errors.New("the sequence of the change log hands out keys in advance")
	// ErrHidden: row-level security hides rows of the change log from this role.
	ErrHidden = errors.New("row-level security hides rows of the change log")
	// ErrDenied: the role may not read the change log.
	ErrDenied = errors.New("no right to read the change log")
)

// Config says which log to read and how. Zero fields have the stated defaults.
type Config struct {
	// Name is the source's name; required.
	Name string
	// URL is the database, as a URL or as keywords and values; required.
	URL observer.Secret
	// Log is the table; default core.tb_entity_change_log.
	Log changelog.Name
	// PollInterval is the longest time between two looks at the log when
	// nothing wakes the reader; default 1 second.
	PollInterval time.Duration
	// BatchSize is how many rows are read at once; default 500. A batch also
	// ends after 8 MiB of images.
	BatchSize int
	// Rewound is called when reading cannot go on where the position says, and
	// some changes may come again: the history of the database is another one.
	// why is for people. It may be called concurrently; default: only a warning
	// in the log.
	Rewound func(ctx context.Context, why string)
	// Logger receives warnings; default: none.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Log = c.Log.OrDefault()
	if c.PollInterval <= 0 {
		c.PollInterval = time.Second
	}
	if c.BatchSize <= 0 {
		c.BatchSize = 500
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With("source", c.Name)
	return c
}

// Source reads the change log of one database. It implements [observer.Source]
// and [observer.Refetcher]. It holds no connection between calls, so its
// methods may be called concurrently, also while a stream is open.
type Source struct {
	cfg Config
	// patience bounds one statement, and hung is how long a transaction may keep
	// a hole open before that is worth a warning.
	patience, hung time.Duration
	// pruned is the key up to which this Source has deleted rows, by table.
	pruned sync.Map
}

// New prepares a source. It does not connect.
func New(cfg Config) *Source {
	return &Source{cfg: cfg.withDefaults(), patience: statementPatience, hung: hungAfter}
}

// Name is the configured name.
func (s *Source) Name() string { return s.cfg.Name }

// Open starts reading after a position. It fails with one of the errors of this
// package when the log cannot be read without losing a row.
func (s *Source) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	st, err := s.open(ctx, conn, after)
	if err != nil {
		return nil, errors.Join(err, hangUp(ctx, conn))
	}
	return st, nil
}

func (s *Source) open(ctx context.Context, conn *link, after observer.Position) (*stream, error) {
	log, err := s.meet(ctx, conn)
	if err != nil {
		return nil, err
	}
	st := &stream{Source: s, conn: conn, log: log, limit: s.cfg.BatchSize}
	if st.place, err = s.resume(ctx, conn, log, after); err != nil {
		return nil, err
	}
	st.exact = st.place.position()
	return st, st.prepare(ctx)
}

// meet looks at the log over a new connection.
func (s *Source) meet(ctx context.Context, conn *link) (log *table, err error) {
	err = conn.do(ctx, func() error {
		log, err = s.inspect(ctx, conn.Conn)
		return err
	})
	if err == nil {
		conn.table, conn.history = log.layout.TableOID, log.history
	}
	return log, err
}

// withLog runs f on a connection of its own.
func (s *Source) withLog(ctx context.Context, f func(conn *link, log *table) error) (err error) {
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, hangUp(ctx, conn)) }()
	log, err := s.meet(ctx, conn)
	if err != nil {
		return err
	}
	return f(conn, log)
}

// look runs f, which only reads, on a connection of its own.
func (s *Source) look(ctx context.Context, f func(conn *pgx.Conn, log *table) error) error {
	return s.withLog(ctx, func(conn *link, log *table) error {
		return conn.do(ctx, func() error { return f(conn.Conn, log) })
	})
}

// Head is the position of now: reading after it gives what becomes visible
// later, rows of transactions included that are running.
func (s *Source) Head(ctx context.Context) (pos observer.Position, err error) {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	err = s.withLog(ctx, func(conn *link, log *table) error {
		p, err := s.now(ctx, conn, log)
		pos = p.position()
		return err
	})
	return pos, err
}

// Backlog counts the rows that [Source.Open] would deliver after a position, and
// says when the first of them was recorded (the zero time when there is none).
// It only reads.
func (s *Source) Backlog(ctx context.Context, after observer.Position) (rows int64, oldest time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, longPatience)
	defer cancel()
	err = s.look(ctx, func(conn *pgx.Conn, log *table) error {
		p, _, err := locate(ctx, conn, log, after)
		if err != nil {
			return err
		}
		los, his := p.gaps.ranges()
		var first *time.Time
		err = conn.QueryRow(ctx, log.backlogQuery(), los, his, p.gaps.high).Scan(&rows, &first)
		if first != nil {
			oldest = *first
		}
		return err
	})
	if err != nil {
		return 0, time.Time{}, s.failed("count the backlog", err)
	}
	return rows, oldest, nil
}

// Refetch reads a row again, named by the position of an [observer.Malformed].
// A row that is gone gives an error that matches [observer.ErrNotFound].
func (s *Source) Refetch(ctx context.Context, at observer.Position) (msg observer.Message, err error) {
	pk, err := parseRowPosition(at)
	if err != nil {
		return msg, err
	}
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	err = s.look(ctx, func(conn *pgx.Conn, log *table) error {
		rows, err := conn.Query(ctx, log.rowQuery(), pk)
		if err != nil {
			return err
		}
		r, err := pgx.CollectExactlyOneRow(rows, scanRow)
		if errors.Is(err, pgx.ErrNoRows) {
			return observer.ErrNotFound
		}
		if err != nil {
			return err
		}
		msg = r.message(s.cfg.Name)
		if msg.Malformed != nil {
			return log.complete(ctx, conn, s.cfg.Name, &r, msg.Malformed)
		}
		return nil
	})
	if err != nil {
		return observer.Message{}, s.failed("read "+string(at), err)
	}
	return msg, nil
}
