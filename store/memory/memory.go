// Package memory keeps the state of the daemon in the memory of the process:
// for tests, and for runs that may forget everything when they end.
//
// It follows the same rules as the durable stores, without surviving anything.
// Claiming looks at every stored delivery, so it is not meant for hundreds of
// thousands of them.
package memory

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	observer "github.com/fraiseql/observer"
)

// DefaultMaxDead is how many dead letters a store holds unless [Config] says
// otherwise.
const DefaultMaxDead = 100_000

// Config says how a store behaves. The zero value of every field is its
// default.
type Config struct {
	// MaxDead is how many dead letters the store holds before InsertDeliveries
	// gives [observer.ErrFull] for another; 0 or less is [DefaultMaxDead].
	MaxDead int
	// Now is the clock, called concurrently; nil is time.Now.
	Now func() time.Time
}

// Store is an [observer.StateStore] in memory. Make one with [New]. It may be
// used by any number of goroutines.
type Store struct {
	maxDead int
	now     func() time.Time

	mu          sync.Mutex
	checkpoints map[string]observer.Checkpoint
	rows        map[string]*row   // by key
	lanes       map[string][]*row // what blocks each lane, by place
	endpoints   map[string]observer.Endpoint
	places      uint64 // the last one given
	dead        int    // how many of rows are stored as dead
	dedup       dedup
	leases      leases
	receipts    receipts
}

var _ observer.StateStore = (*Store)(nil)

// New returns an empty store.
func New(cfg Config) *Store {
	if cfg.MaxDead <= 0 {
		cfg.MaxDead = DefaultMaxDead
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Store{
		maxDead: cfg.MaxDead, now: cfg.Now,
		checkpoints: map[string]observer.Checkpoint{}, rows: map[string]*row{},
		lanes: map[string][]*row{}, endpoints: map[string]observer.Endpoint{},
		dedup: newDedup(), leases: leases{rows: map[string]observer.Lease{}},
	}
}

// Close does nothing.
func (s *Store) Close() error { return nil }

// LoadCheckpoint implements [observer.CheckpointStore].
func (s *Store) LoadCheckpoint(ctx context.Context, name string) (observer.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return observer.Checkpoint{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	cp, ok := s.checkpoints[name]
	if !ok {
		return observer.Checkpoint{}, fmt.Errorf("load checkpoint %s: %w", name, observer.ErrNotFound)
	}
	return cloneCheckpoint(cp), nil
}

// SaveCheckpoint implements [observer.CheckpointStore], except that nothing is
// durable.
func (s *Store) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fenced(name, cp) {
		return fmt.Errorf("save checkpoint %s: %w", name, observer.ErrFenced)
	}
	cp = cloneCheckpoint(cp)
	cp.SavedAt, cp.Term, cp.Lease = s.clock(), 0, ""
	s.checkpoints[name] = cp
	return nil
}

// Checkpoints gives every stored checkpoint by the name of its source.
func (s *Store) Checkpoints(ctx context.Context) (map[string]observer.Checkpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := maps.Clone(s.checkpoints)
	for name, cp := range all {
		all[name] = cloneCheckpoint(cp)
	}
	return all, nil
}

func cloneCheckpoint(cp observer.Checkpoint) observer.Checkpoint {
	cp.Done = slices.Clone(cp.Done)
	return cp
}

// clock is the time without a monotonic reading, as a stored time has none.
func (s *Store) clock() time.Time { return s.now().Round(0).UTC() }
