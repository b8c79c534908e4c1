// Package backoff computes how long to wait before trying again. It is shared
// by the relay (reopening a source), the retry middleware and everything that
// waits for a store to come back.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Kind is how the wait grows with the number of failures.
type Kind string

// The kinds, as users write them in backoff_strategy.
const (
	Exponential Kind = "exponential"
	Linear      Kind = "linear"
	Fixed       Kind = "fixed"
)

// Policy is a rule for waiting. The zero Policy waits 100 ms, doubling up to
// 30 s.
type Policy struct {
	Kind Kind
	// Initial is the wait after the first failure; 100 ms when zero.
	Initial time.Duration
	// Max bounds every wait; 30 s when zero.
	Max time.Duration
}

// Ceiling is the longest wait after the given number of failures, from 1.
func (p Policy) Ceiling(failures int) time.Duration {
	initial, limit := p.Initial, p.limit()
	if initial <= 0 {
		initial = 100 * time.Millisecond
	}
	wait := initial
	switch p.Kind {
	case Fixed:
	case Linear:
		wait = saturatingMul(initial, int64(failures), limit)
	default:
		for i := 1; i < failures && wait < limit; i++ {
			wait = saturatingMul(wait, 2, limit)
		}
	}
	return min(wait, limit)
}

func (p Policy) limit() time.Duration {
	if p.Max <= 0 {
		return 30 * time.Second
	}
	return p.Max
}

// Delay is a wait between half of [Policy.Ceiling] and all of it, drawn at
// random so that many who failed together do not come back together. The lower
// half is never used: whoever has only itself to wait for gains nothing by a
// wait near zero. Fixed waits are exact. For retries of deliveries see
// [Policy.Retry].
func (p Policy) Delay(failures int) time.Duration {
	ceiling := p.Ceiling(failures)
	if p.Kind == Fixed {
		return ceiling
	}
	half := ceiling / 2
	return half + draw(ceiling-half)
}

// Retry is a wait between zero and [Policy.Ceiling], all of them equally likely:
// full jitter, which spreads many deliveries that failed together most evenly.
// Fixed waits are those of [AtLeast], as far as Max allows.
func (p Policy) Retry(failures int) time.Duration {
	ceiling := p.Ceiling(failures)
	if p.Kind == Fixed {
		return min(AtLeast(ceiling), p.limit())
	}
	return draw(ceiling)
}

// AtLeast is a wait of d and up to a fifth longer, drawn at random. It is for
// waits that somebody wrote down: cut short, they would not last as long as
// they were meant to, and exact, all would come back at once.
func AtLeast(d time.Duration) time.Duration { return d + draw(d/5) }

// draw is a random wait from zero to longest.
func draw(longest time.Duration) time.Duration {
	return rand.N(longest + 1) //nolint:gosec // spreading load needs no secrecy
}

func saturatingMul(d time.Duration, n int64, limit time.Duration) time.Duration {
	if n > 0 && d > limit/time.Duration(n) {
		return limit
	}
	return d * time.Duration(n)
}

// Wait blocks for d. It returns false when ctx or stop ends first; stop may be
// nil.
func Wait(ctx context.Context, stop <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-stop:
	case <-ctx.Done():
	}
	return false
}
