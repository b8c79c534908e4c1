package middleware

import (
	"context"
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// turns waits for the turn in this process, and then for that among all. What a
// worker has claimed has waited for neither.
func (t *Traffic) turns(ctx context.Context, k *ticket, patience time.Duration) (end func(used bool), until time.Time, ok bool) {
	began := time.Now()
	if until, ok := t.turn(ctx, k, patience); !ok {
		return nil, until, false
	}
	ahead := patience - time.Since(began)
	if k.admitted {
		ahead = moment
	}
	return t.together(ctx, k, min(max(ahead, 0), moment))
}

// turn waits for a place and a token, up to patience. until is when to ask again
// if there was none.
func (t *Traffic) turn(ctx context.Context, k *ticket, patience time.Duration) (until time.Time, ok bool) {
	began := time.Now()
	if until, ok := t.place(ctx, k, patience); !ok {
		return until, false
	}
	now := time.Now()
	t.mu.Lock()
	at := now
	if !k.token {
		if at = k.guard.limits.token(now); at.After(now) && at.Sub(began) > patience {
			t.fallBehind(k.guard)
			k.freeSlot()
			t.mu.Unlock()
			return at, false
		}
		k.takeToken(now)
	}
	t.mu.Unlock()
	if at.After(now) && !backoff.Wait(ctx, observer.Drain(ctx), at.Sub(now)) {
		k.give(k.backTurn)
		return time.Now(), false
	}
	return at, true
}

// place waits for a place.
func (t *Traffic) place(ctx context.Context, k *ticket, patience time.Duration) (until time.Time, ok bool) {
	t.mu.Lock()
	g := k.guard
	l := &g.limits
	switch {
	case k.slot:
		t.mu.Unlock()
		return time.Time{}, true
	case g.backlog || l.cfg.MaxConcurrent > 0 && l.running >= l.cfg.MaxConcurrent && patience <= 0:
		t.fallBehind(g)
		t.mu.Unlock()
		return time.Now().Add(moment), false
	case l.cfg.MaxConcurrent <= 0 || l.running < l.cfg.MaxConcurrent:
		k.takeSlot()
		t.mu.Unlock()
		return time.Time{}, true
	}
	turn := make(chan struct{})
	l.waiting = append(l.waiting, turn)
	t.mu.Unlock()
	return t.await(ctx, k, turn, patience)
}

// await waits in the line for a place.
func (t *Traffic) await(ctx context.Context, k *ticket, turn chan struct{}, patience time.Duration) (until time.Time, ok bool) {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-turn:
	case <-timer.C:
	case <-observer.Drain(ctx):
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	l := &k.guard.limits
	i := slices.Index(l.waiting, turn)
	if i < 0 { // the place was given, maybe at the last moment
		k.slot = true
		return time.Time{}, true
	}
	l.waiting = slices.Delete(l.waiting, i, i+1)
	t.fallBehind(k.guard)
	return time.Now().Add(moment), false
}
