// Package sqlite keeps the state of the daemon, checkpoints, deliveries and
// endpoints, in one SQLite file.
//
// # Durability
//
// The file is in WAL mode with synchronous=FULL: a call that changes something
// returns nil only after its commit is in the log and the log is synced. What
// was acknowledged therefore survives a kill of the process and, as far as the
// disk keeps its promises, a power loss.
//
// synchronous=NORMAL would keep the order (all commits go through one log, and
// recovery keeps a prefix of it, so a checkpoint never survives without the
// dead letter stored before it), and it survives a kill. But a power loss would
// forget the latest commits, and each forgotten checkpoint or completion is a
// webhook or an email sent a second time. Relays save few checkpoints, so FULL
// costs them little, and concurrent callers share one commit and one sync.
// On macOS a sync reaches the drive but not always its platters.
//
// # Concurrency
//
// A Store may be used by any number of goroutines, and the file by any number
// of Stores and processes of one machine. Not on a network file system: WAL
// needs shared memory. All writes of a Store go through one goroutine and one
// connection; readers have connections of their own and never wait for writes.
//
// # Deliveries
//
// A row of tb_delivery is a delivery; that it is running follows from its lease.
// All rules are kept by the one writer, which has the lock of the file before it
// reads: no other process changes a lane between looking at it and parking or
// releasing in it. Claims find what is due through tb_band, a small table of the
// queues, endpoints and priorities that have something, and one probe of an index
// for each of those that have room, so that a claim costs the same with a million
// deliveries waiting for one endpoint. Finished rows stay until they are pruned;
// their numbers are kept, not counted.
//
// # Time
//
// Leases and due times follow [Config.Now], by default the clock of this
// machine, which every process that opens the file shares. Times are stored in
// microseconds.
package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	observer "github.com/fraiseql/observer"
)

// The defaults of [Config].
const (
	// DefaultMaxDead is how many dead letters a store holds.
	DefaultMaxDead = 100_000
	// DefaultBusyTimeout is how long a write waits for another process.
	DefaultBusyTimeout = 10 * time.Second
)

// readers is the number of connections for reading: enough for the daemon's
// worker, its status and a person's listing at the same time.
const readers = 4

// Config says how to open a store. Path is required; the zero value of every
// other field is its default.
type Config struct {
	// Path is the file. It is created, readable by its owner only, when it is
	// missing; its directory must exist.
	Path string
	// MaxDead is how many dead letters the store holds before InsertDeliveries
	// gives [observer.ErrFull] for another; 0 is [DefaultMaxDead].
	MaxDead int
	// ReadOnly opens an existing store for looking at it. Nothing is created or
	// migrated, and a missing or empty file is an error that matches
	// [observer.ErrNotFound].
	ReadOnly bool
	// BusyTimeout is how long a call waits while another process writes; 0 is
	// [DefaultBusyTimeout].
	BusyTimeout time.Duration
	// Now is the clock, called concurrently; nil is time.Now. It is meant for
	// tests.
	Now func() time.Time
}

// Store is an [observer.StateStore] in a SQLite file. Make one with [Open].
type Store struct {
	path    string
	maxDead int
	now     func() time.Time
	read    *sql.DB
	writer  *writer // nil when read-only
	close   func() error
}

var _ observer.StateStore = (*Store)(nil)

// Open opens the store at cfg.Path and brings its tables up to date. Several
// processes may open the same new file at once. A file that a newer release has
// migrated is refused. The context bounds the opening only.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Store{path: cfg.Path, maxDead: cfg.MaxDead, now: cfg.Now}
	if err := s.open(ctx, cfg); err != nil {
		return nil, errors.Join(fmt.Errorf("open state store: %w", s.explain(err)), s.release())
	}
	s.close = sync.OnceValue(s.release)
	return s, nil
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Path == "":
		return c, errors.New("open state store: the path of the file is empty")
	case c.MaxDead < 0:
		return c, fmt.Errorf("open state store: the cap on dead letters is %d, want at least 1 (or 0 for %d)", c.MaxDead, DefaultMaxDead)
	case c.BusyTimeout < 0:
		return c, fmt.Errorf("open state store: the busy timeout is %s, want a positive duration", c.BusyTimeout)
	}
	if c.MaxDead == 0 {
		c.MaxDead = DefaultMaxDead
	}
	if c.BusyTimeout == 0 {
		c.BusyTimeout = DefaultBusyTimeout
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

func (s *Store) open(ctx context.Context, cfg Config) error {
	exists, err := checkFile(cfg.Path)
	if err != nil {
		return err
	}
	if cfg.ReadOnly {
		return s.openReadOnly(ctx, cfg, exists)
	}
	if err := s.openWriter(ctx, cfg, exists); err != nil {
		return err
	}
	s.read, err = openPool(cfg, accessReader, readers)
	return err
}

func (s *Store) openReadOnly(ctx context.Context, cfg Config, exists bool) error {
	if !exists {
		return &missingError{path: cfg.Path, what: "does not exist"}
	}
	var err error
	if s.read, err = openPool(cfg, accessReader, readers); err != nil {
		return err
	}
	return checkVersion(ctx, s.read, cfg.Path)
}

func (s *Store) openWriter(ctx context.Context, cfg Config, exists bool) error {
	db, err := openWriterDB(ctx, cfg, exists)
	if err != nil {
		return err
	}
	// The writer outlives the opening: it ends with Close, not with ctx.
	s.writer, err = startWriter(context.WithoutCancel(ctx), db)
	return err
}

// Close waits for the writes under way, moves the log into the file when no
// other process uses it, and releases the store.
func (s *Store) Close() error { return s.close() }

func (s *Store) release() error {
	var errs []error
	if s.writer != nil {
		s.writer.shut()
	}
	// Readers first: the last connection to close is then one that may write,
	// which is what empties and removes the log.
	if s.read != nil {
		errs = append(errs, s.read.Close())
	}
	if s.writer != nil {
		errs = append(errs, s.writer.db.Close())
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close state store %s: %w", s.path, err)
	}
	return nil
}

// write runs one change and says what was being done when it fails.
func (s *Store) write(ctx context.Context, what string, run func(*session) error) error {
	if s.writer == nil {
		return fmt.Errorf("%s: the state store %s was opened for reading only", what, s.path)
	}
	if err := s.writer.do(ctx, run); err != nil {
		return fmt.Errorf("%s: %w", what, s.explain(err))
	}
	return nil
}

// micros is a time as it is stored: 0 stands for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}

func fromMicros(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us).UTC()
}
