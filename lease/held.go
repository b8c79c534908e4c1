package lease

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// Held is a lease that this process holds, or held. It may be used by any number
// of goroutines.
type Held struct {
	lease observer.Lease
	ask   func() // has the lease renewed now
	trust atomic.Pointer[trust]

	mu        sync.Mutex
	confirmed time.Time     // when it was asked for the last time with success
	changed   chan struct{} // closed when Await has to look again
	lost      chan struct{}
	err       error // why it is over
}

// trust is until when nobody else can have a lease.
type trust struct{ until, wall time.Time }

// newHeld is a lease for which a process asked at a time.
func newHeld(l observer.Lease, asked time.Time, window time.Duration, ask func()) *Held {
	h := &Held{lease: l, ask: ask, changed: make(chan struct{}), lost: make(chan struct{})}
	h.confirm(asked, window)
	return h
}

// Name is the name of the lease in the store, which begins with the prefix of the
// group. It is for [observer.Checkpoint].
func (h *Held) Name() string { return h.lease.Name }

// Term is the fencing token of this tenancy.
func (h *Held) Term() int64 { return h.lease.Term }

// Valid reports whether nobody else can hold the lease now. It reads a clock, and
// neither waits nor asks anybody.
func (h *Held) Valid() bool {
	t := h.trust.Load()
	if t == nil {
		return false
	}
	// The monotonic clock stands still while the machine sleeps, the other one
	// does not. Where that one is set forward a lease is asked for too early.
	now := time.Now()
	return now.Before(t.until) && now.Round(0).Before(t.wall)
}

// Await returns nil when the lease is [Held.Valid]: at once when it is, and else
// when the store has confirmed it. Once the lease is lost or was given back the
// error matches [observer.ErrFenced] and says why. When ctx ends first it gives
// that error.
func (h *Held) Await(ctx context.Context) error {
	for !h.Valid() {
		h.mu.Lock()
		changed, err := h.changed, h.err
		h.mu.Unlock()
		if err != nil {
			return err
		}
		h.ask()
		if h.Valid() { // it was confirmed before changed was read
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("wait for lease %s: %w", h.lease.Name, ctx.Err())
		}
	}
	return nil
}

// Lost is closed once the lease is lost or was given back.
func (h *Held) Lost() <-chan struct{} { return h.lost }

// Err says why the lease is over; nil while it is not. It matches
// [observer.ErrFenced].
func (h *Held) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// confirm takes note of what the store answered to a question that was asked at a
// time: however long the answer took, the lease runs since then.
func (h *Held) confirm(asked time.Time, window time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil || asked.Before(h.confirmed) {
		return
	}
	h.confirmed = asked
	until := asked.Add(window)
	h.trust.Store(&trust{until: until, wall: until.Round(0)})
	close(h.changed)
	h.changed = make(chan struct{})
}

// doubt ends the trust in a lease that is lost, until somebody knows why.
func (h *Held) doubt() { h.trust.Store(nil) }

// end ends the lease, and reports whether it was not over before.
func (h *Held) end(why error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return false
	}
	h.err = why
	h.trust.Store(nil)
	close(h.lost)
	close(h.changed)
	return true
}

// expires is when the lease ends in the store, as far as is known here.
func (h *Held) expires(ttl time.Duration) time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.confirmed.Add(ttl)
}

// unconfirmed is for how long nobody has confirmed the lease. The monotonic clock
// stands still while the machine sleeps.
func (h *Held) unconfirmed() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := time.Now()
	return max(now.Sub(h.confirmed), now.Round(0).Sub(h.confirmed.Round(0)))
}

// givenBack is the error of a lease that its holder did not want any more.
func givenBack(name string) error {
	return fmt.Errorf("lease %s: %w: it was given back", name, observer.ErrFenced)
}

// lostTo is the error of a lease that was lost. present is the one that is stored
// now, if that is known.
func (h *Held) lostTo(present observer.Lease, window time.Duration, unknown error) error {
	why := "it was taken away although it was renewed " + unconfirmedText(h) + " ago"
	if h.unconfirmed() >= window {
		why = "not renewed for " + unconfirmedText(h) + " (the process was paused, or the state store was away)"
	}
	who := "nobody holds it now"
	switch {
	case unknown != nil && !errors.Is(unknown, observer.ErrNotFound):
		who = "who holds it now could not be found out: " + unknown.Error()
	case present.Running():
		who = fmt.Sprintf("%s holds it since %s", present.Holder, present.Since.Format(time.RFC3339))
	}
	return fmt.Errorf("lease %s: %w: %s; %s", h.lease.Name, observer.ErrFenced, why, who)
}

func unconfirmedText(h *Held) string { return h.unconfirmed().Round(100 * time.Millisecond).String() }
