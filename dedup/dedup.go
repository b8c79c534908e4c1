// Package dedup puts a fast store of handlings, which may forget and fail, in
// front of one that does neither, so that an outage of the fast one neither
// blocks deliveries nor repeats them.
//
// # Who answers
//
// All processes agree on one view, a row of the state store: where claims are
// made, and which epoch of the fast store counts. Three places follow each other:
//
//	state    claims and marks are in the state store
//	filling  so are claims; marks are in both, and earlier ones are copied
//	front    claims are in the fast store; marks reach the state store soon
//
// Whoever finds that the fast store fails, or has forgotten anything, changes
// the view back to state. Before a process adopts a view it enters its claims
// under way, and marks that are not in the state store yet, where the view has
// them; it makes claims under the view when all others have adopted it, too.
//
// A process is bound to a view by a session, a lease in the state store. One that
// died, or cannot reach the state store, keeps the others from going on until its
// session has ended, and by then it makes no claims any more.
package dedup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// Front is a fast store that may forget.
type Front interface {
	// NewEpoch begins an epoch in which nothing is claimed or done yet.
	NewEpoch(ctx context.Context) (name string, err error)
	// CheckEpoch gives an error when anything of it may have been forgotten.
	CheckEpoch(ctx context.Context, name string) error
	// Dedup is the store of an epoch. It gives an error instead of an answer when
	// anything may have been forgotten.
	Dedup(epoch string) observer.DedupStore
}

// Config says what to put together. Fields are required unless they have a
// default.
type Config struct {
	State observer.DedupStateStore
	Front Front
	// Session names this life of this process.
	Session string
	// SessionLease is how long the others wait for a process that died; 10 s when
	// zero.
	SessionLease time.Duration
	// Poll is how often the view is looked at; 250 ms when zero.
	Poll time.Duration
	// FlushDelay is how long marks may wait for others on their way to the state
	// store; 100 ms when zero. MaxBehind bounds how many wait; 10,000 when zero.
	FlushDelay time.Duration
	MaxBehind  int
	// Keep is how long a mark is kept that the state store may lack: the fast one
	// had it from a process that died. Required.
	Keep time.Duration
	// Bypassed is called for every claim that the state store answers in place of
	// the fast one; it may be nil.
	Bypassed func()
	Logger   *slog.Logger
}

// Store is an [observer.DedupStore] made of two. Make one with [New], and close
// it. It does nothing before it is used.
type Store struct {
	cfg   Config
	start sync.Once
	queue *queue
	kick  chan struct{}

	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	view    *view
	changed chan struct{} // closed when what waits may go on
	trusted time.Time     // until when the session is known to last
	suspect string        // the epoch that is over, whatever the view says
	cause   error         // why
	trouble error         // with the state store
	claims  map[string]underWay
	closed  bool
	givenUp bool // waiting for a view was in vain, and still is

	// The rest belongs to the one goroutine that follows the view.
	adopted  int64
	renew    time.Time // when to prolong the session
	probe    time.Time // when to look after the fast store
	failures int       // of attempts to fill it, since it answered last
	copied   string    // the last key that was copied
}

var _ observer.DedupStore = (*Store)(nil)

// view is one that was adopted, or is about to be.
type view struct {
	observer.DedupView
	front observer.DedupStore // nil in the state place
	ready bool                // claims may be made under it
}

// underWay is a claim that this process holds.
type underWay struct {
	claim observer.DedupClaim
	lease time.Duration
}

var errClosed = errors.New("deduplication was closed")

// New puts two stores together.
func New(cfg Config) *Store {
	defaults := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	defaults(&cfg.SessionLease, 10*time.Second)
	defaults(&cfg.Poll, 250*time.Millisecond)
	defaults(&cfg.FlushDelay, 100*time.Millisecond)
	if cfg.MaxBehind <= 0 {
		cfg.MaxBehind = 10_000
	}
	if cfg.Bypassed == nil {
		cfg.Bypassed = func() {}
	}
	return &Store{
		cfg: cfg, queue: newQueue(cfg), kick: make(chan struct{}, 1),
		changed: make(chan struct{}), claims: map[string]underWay{},
	}
}

// begin starts what follows the view, when somebody needs it.
func (s *Store) begin(ctx context.Context) {
	s.start.Do(func() {
		lasting, cancel := context.WithCancel(context.WithoutCancel(ctx))
		s.cancel = cancel
		s.running.Go(func() { s.follow(lasting) })
		s.running.Go(func() { s.queue.run(lasting) })
	})
}

// Close stores the marks that are on their way and ends the session. Nothing may
// be called afterwards.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.start.Do(func() {})
	if s.cancel == nil {
		return nil
	}
	s.cancel()
	s.running.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout) //nolint:forbidigo // the end of the process has no context any more
	defer cancel()
	if err := errors.Join(s.queue.flushAll(ctx), s.cfg.State.EndDedupSession(ctx, s.cfg.Session)); err != nil {
		return fmt.Errorf("close deduplication: %w", err)
	}
	return nil
}

const (
	// closeTimeout bounds what is stored at the end.
	closeTimeout = 5 * time.Second
	// patience is how long a claim waits for a view before the caller is told.
	patience = 5 * time.Second
)

// await gives a view under which claims may be made now.
func (s *Store) await(ctx context.Context) (*view, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.begin(ctx)
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		s.mu.Lock()
		v, changed, trouble, closed := s.view, s.changed, s.trouble, s.closed
		usable := s.usable()
		s.givenUp = s.givenUp && !usable
		givenUp := s.givenUp
		s.mu.Unlock()
		switch {
		case closed:
			return nil, errClosed
		case usable:
			return v, nil
		case givenUp:
			return nil, s.stuck(trouble)
		}
		select {
		case <-changed:
		case <-limited.Done():
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			s.mu.Lock()
			s.givenUp = true
			s.mu.Unlock()
		}
	}
}

// stuck says why there is no view.
func (s *Store) stuck(trouble error) error {
	if trouble == nil {
		return fmt.Errorf("not all processes have agreed within %s on where claims are made; one that died is waited for until its session ends", patience)
	}
	return fmt.Errorf("the processes cannot agree on where claims are made: %w", trouble)
}

// usable reports whether claims may be made now. The caller holds the lock.
func (s *Store) usable() bool {
	return s.view != nil && s.view.ready && time.Now().Before(s.trusted) && (s.view.Place != observer.DedupInFront || s.suspect != s.view.Epoch)
}

// doubt ends an epoch of the fast store.
func (s *Store) doubt(epoch string, cause error) {
	s.mu.Lock()
	if s.suspect != epoch {
		s.suspect, s.cause = epoch, cause
	}
	s.mu.Unlock()
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// place is where claims are made under a view.
func (s *Store) place(v *view) observer.DedupStore {
	if v.Place == observer.DedupInFront {
		return v.front
	}
	return s.cfg.State
}
