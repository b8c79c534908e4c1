// Package storetest is the conformance suite of [observer.StateStore]: every
// store passes it, the one in memory included.
package storetest

import (
	"sync"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// Options is what a test asks of the store it opens.
type Options struct {
	// MaxDead is the cap on dead letters; 0 is the store's default, which must
	// be at least 1,000.
	MaxDead int
	// Now is the clock the store must follow. It is never nil.
	Now func() time.Time
	// Dir is set by tests that open the same data several times, at once or one
	// after the other. A store that keeps its data opens it there; one that
	// keeps nothing calls t.Skip.
	Dir string
}

// Open opens a store for a test, which closes it. Unless opts.Dir says
// otherwise the store is empty and shared with nobody.
type Open func(t *testing.T, opts Options) observer.StateStore

// Run runs the suite. Tests run in parallel and wait for nothing: they move the
// clock in the options.
func Run(t *testing.T, open Open) {
	t.Helper()
	for _, group := range []map[string]func(*testing.T, *harness){
		checkpointTests(), insertTests(), batchTests(), beginTests(), capTests(), listTests(), statsTests(), claimTests(), lostTests(),
		leaseTests(), dueTests(), shareTests(), laneTests(), releaseTests(), redrivenTests(), requeueTests(), pruneTests(), endpointTests(),
		nameTests(), nameModelTests(), fenceTests(), receiptTests(), concurrencyTests(), parkingTests(), durabilityTests(), historyTests(),
	} {
		for name, test := range group {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				test(t, &harness{opener: open, clock: newClock()})
			})
		}
	}
}

// harness is what one test works with.
type harness struct {
	opener Open
	clock  *clock
}

// store opens a store that is closed with the test.
func (h *harness) store(t *testing.T, opts Options) observer.StateStore {
	t.Helper()
	s := h.open(t, opts)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// open opens a store that the test closes itself.
func (h *harness) open(t *testing.T, opts Options) observer.StateStore {
	t.Helper()
	opts.Now = h.clock.Now
	return h.opener(t, opts)
}

// clock is moved by the tests. It stands still otherwise.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 2, 3, 4, 5, 6, 123_456_000, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}
