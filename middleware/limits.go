package middleware

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fraiseql/observer"
)

// ErrLimited is that of an attempt that was not made because its endpoint gets no
// more at a time.
var ErrLimited = errors.New("the limit of the endpoint is reached")

// LimitsConfig bounds what is sent to an endpoint, by this process and, with
// [SharedLimits], by all processes together. The zero value bounds nothing.
type LimitsConfig struct {
	// MaxConcurrent is how many attempts run at once; 0 is no limit.
	MaxConcurrent int
	// Rate is how many begin in a second, on average; 0 is no limit. Burst is how
	// many may begin at once after a pause; one second's worth when 0.
	Rate  float64
	Burst int
}

func (c LimitsConfig) none() bool { return c.MaxConcurrent <= 0 && c.Rate <= 0 }

// interval is the time between two attempts at full rate.
func (c LimitsConfig) interval() time.Duration {
	return max(time.Duration(float64(time.Second)/c.Rate), time.Nanosecond)
}

// BurstOrDefault is how many may begin at once after a pause.
func (c LimitsConfig) BurstOrDefault() int {
	if c.Burst > 0 {
		return c.Burst
	}
	return max(int(math.Ceil(c.Rate)), 1)
}

// limits are those of one endpoint: places, and a bucket of tokens.
type limits struct {
	cfg     LimitsConfig
	running int
	// full is when the bucket is full again.
	full time.Time
	// waiting are the lanes that wait for a place, first come first.
	waiting []chan struct{}
	// sharing is about the limits of all processes together.
	sharing sharing
}

func (l *limits) idle(now time.Time) bool {
	return l.running == 0 && len(l.waiting) == 0 && !l.full.After(now) && l.sharing.idle(now)
}

// available is how many attempts may begin now.
func (l *limits) available(now time.Time) int {
	n := l.sharing.available(now)
	if l.cfg.MaxConcurrent > 0 {
		n = min(n, l.cfg.MaxConcurrent-l.running)
	}
	if l.cfg.Rate > 0 {
		empty := max(l.full.Sub(now), 0)
		n = min(n, int((time.Duration(l.cfg.BurstOrDefault())*l.cfg.interval()-empty)/l.cfg.interval()))
	}
	return max(n, 0)
}

// next is when the next attempt may begin, as far as time decides: zero when a
// place has to become free.
func (l *limits) next(now time.Time) time.Time {
	if l.cfg.MaxConcurrent > 0 && l.running >= l.cfg.MaxConcurrent {
		return time.Time{}
	}
	at := l.token(now)
	switch s := &l.sharing; {
	case s.until.After(at):
		return s.until
	case s.available(at) == 0: // those that ask get their answers soon
		return time.Time{}
	}
	return at
}

// token is when there is a token.
func (l *limits) token(now time.Time) time.Time {
	if l.cfg.Rate <= 0 {
		return now
	}
	at := l.full.Add(-time.Duration(l.cfg.BurstOrDefault()-1) * l.cfg.interval())
	if at.Before(now) {
		return now
	}
	return at
}

// backTurn gives a place and a token back that were not used.
func (k *ticket) backTurn() {
	k.endAsking()
	if k.token {
		k.token = false
		l := &k.guard.limits
		l.full = l.full.Add(-l.cfg.interval())
	}
	k.freeSlot()
}

func (k *ticket) takeSlot() {
	k.guard.limits.running++
	k.slot = true
}

// takeToken takes the next token, also one that there is only later.
func (k *ticket) takeToken(now time.Time) {
	l := &k.guard.limits
	if l.cfg.Rate <= 0 {
		return
	}
	if l.full.Before(now) {
		l.full = now
	}
	l.full = l.full.Add(l.cfg.interval())
	k.token = true
}

// freeSlot gives the place to the lane that waits longest, unless what is stored
// comes first.
func (k *ticket) freeSlot() {
	if !k.slot {
		return
	}
	k.slot = false
	l := &k.guard.limits
	if len(l.waiting) > 0 && !k.guard.backlog {
		close(l.waiting[0])
		l.waiting = l.waiting[1:]
		return
	}
	l.running--
}

// Limit has attempts wait for their turn at their endpoint: up to patience, first
// come first, else they are not tried. What a person asks for does not wait. Who has
// lost its lease by the time of its turn gives that back.
func (t *Traffic) Limit(patience time.Duration) observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			k := t.turnOf(ctx, d.Endpoint)
			if k == nil {
				return next.Execute(ctx, d)
			}
			end, until, ok := t.turns(ctx, k, patience)
			if !ok {
				return notTried(fmt.Errorf("not sent to %s yet: %w", d.Endpoint, ErrLimited), until)
			}
			// Invariant 5: the lease may have been lost while this waited. [Retry] asks
			// again, and has the delivery end with that.
			if err := observer.Fence(ctx); err != nil {
				end(false)
				return notTried(err, time.Now())
			}
			defer end(true)
			t.used(k)
			return next.Execute(ctx, d)
		})
	}
}

// turnOf is the ticket of an attempt where the endpoint has limits.
func (t *Traffic) turnOf(ctx context.Context, endpoint string) *ticket {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := ticketOf(ctx, endpoint)
	if k == nil || k.guard.limits.cfg.none() {
		return nil
	}
	return k
}

// used notes that the attempt begins, and the token is gone.
func (t *Traffic) used(k *ticket) {
	t.mu.Lock()
	defer t.mu.Unlock()
	k.token = false
}
