package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"

	"github.com/fraiseql/observer"
)

// ErrOpen is that of an attempt that was not made because the circuit breaker of
// its endpoint is open, or is trying it with others.
var ErrOpen = errors.New("circuit breaker open")

// BreakerConfig says when a circuit breaker opens and how it closes. The zero
// value has none.
type BreakerConfig struct {
	Enabled bool
	// FailureRate is the percentage of the calls within Window that have to fail,
	// of MinCalls at least.
	FailureRate int
	MinCalls    int
	Window      time.Duration
	// OpenFor is how long nothing is sent then.
	OpenFor time.Duration
	// Probes is how many attempts are made after that, not counting those that say
	// nothing about the receiver. When too few of them fail to open a closed
	// breaker, it closes, else it opens again.
	Probes int
}

// successes is how many of the probes have to succeed.
func (c BreakerConfig) successes() int {
	enoughToOpen := max((c.Probes*c.FailureRate+99)/100, 1)
	return c.Probes - enoughToOpen + 1
}

// BreakerState is where a circuit breaker stands.
type BreakerState string

// The states of a circuit breaker.
const (
	// BreakerClosed lets everything pass.
	BreakerClosed BreakerState = "closed"
	// BreakerOpen lets nothing pass.
	BreakerOpen BreakerState = "open"
	// BreakerHalfOpen lets a few probes pass; also while nobody has come to make
	// one yet.
	BreakerHalfOpen BreakerState = "half_open"
)

// probePause is how long what finds all probes under way is put off.
const probePause = time.Second

// breaker is the circuit breaker of one endpoint. The library keeps the window
// and decides; who may pass on probation is counted here, because an attempt that
// says nothing about the receiver has to give its permit back, and results of
// before a change of state must not count after it.
type breaker struct {
	cfg BreakerConfig
	lib circuitbreaker.CircuitBreaker[any]
	// epoch counts the changes of state, probing the probes under way in it, and
	// probed those that have said something. The library decides when all have.
	epoch, probing, probed int
}

func newBreaker(cfg BreakerConfig) *breaker {
	if !cfg.Enabled {
		return nil
	}
	return &breaker{cfg: cfg, lib: circuitbreaker.NewBuilder[any]().
		WithFailureRateThreshold(float64(cfg.FailureRate)/100, count(cfg.MinCalls), cfg.Window).
		WithSuccessThresholdRatio(count(cfg.successes()), count(cfg.Probes)).
		WithDelay(cfg.OpenFor).
		Build()}
}

func count(n int) uint { return uint(max(n, 1)) }

// state is where the breaker stands. The library half-opens with the first call
// after its delay; here it is half-open from then on. remaining is how long an
// open one stays so.
func (b *breaker) state() (state BreakerState, remaining time.Duration) {
	switch b.lib.State() {
	case circuitbreaker.OpenState:
		if remaining = b.lib.RemainingDelay(); remaining > 0 {
			return BreakerOpen, remaining
		}
		return BreakerHalfOpen, 0
	case circuitbreaker.HalfOpenState:
		return BreakerHalfOpen, 0
	default:
		return BreakerClosed, 0
	}
}

// turn begins another epoch.
func (b *breaker) turn() { b.epoch, b.probing, b.probed = b.epoch+1, 0, 0 }

func (b *breaker) allowance() int {
	switch state, _ := b.state(); state {
	case BreakerClosed:
		return math.MaxInt
	case BreakerHalfOpen:
		return max(b.cfg.Probes-b.probing-b.probed, 0)
	default:
		return 0
	}
}

// idle reports whether nothing is left to know, when it was last used at a time.
func (b *breaker) idle(now, used time.Time) bool {
	if b.probing > 0 {
		return false
	}
	rest := b.cfg.Window
	if b.lib.State() == circuitbreaker.OpenState {
		rest += b.cfg.OpenFor
	}
	return now.Sub(used) > rest
}

// pass asks the breaker to let an attempt pass. until is when it may, if not now.
func (k *ticket) pass(now time.Time) (until time.Time, ok bool) {
	b := k.guard.breaker
	k.guard.used = now
	if b == nil {
		return time.Time{}, true
	}
	state, remaining := b.state()
	switch state {
	case BreakerOpen:
		return now.Add(remaining), false
	case BreakerHalfOpen:
		if b.lib.State() == circuitbreaker.OpenState {
			b.lib.HalfOpen()
			b.turn()
		}
		if b.allowance() == 0 {
			return now.Add(probePause), false
		}
		b.probing++
		k.probe = true
	case BreakerClosed:
	}
	k.epoch = b.epoch
	return time.Time{}, true
}

// verdict is what an attempt says about its receiver.
type verdict int

const (
	saysNothing verdict = iota
	answered
	failed
)

// verdictOf judges an attempt. A receiver that refuses for good has answered: it
// is not down. What never came as far as the receiver, and what was cut off by the
// end of this process, says nothing.
func verdictOf(ctx context.Context, err error) verdict {
	if err == nil {
		return answered
	}
	if _, untried := observer.NotTriedUntil(err); untried || ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return saysNothing
	}
	if observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		return failed
	}
	switch observer.ReasonOf(err) {
	case observer.ReasonPermanent, observer.ReasonGone:
		return answered
	case observer.ReasonOutcomeUnknown:
		return failed
	default:
		return saysNothing
	}
}

// told notes the verdict on an attempt, and gives the state before and after. One
// that began before the breaker last changed its state says nothing about now.
func (k *ticket) told(v verdict, now time.Time) (before, after BreakerState) {
	b := k.guard.breaker
	k.guard.used = now
	if b == nil || k.epoch != b.epoch {
		k.probe = false
		return "", ""
	}
	before, _ = b.state()
	if k.probe {
		k.probe = false
		b.probing--
		if v != saysNothing {
			b.probed++
		}
	}
	if v == saysNothing {
		return before, before
	}
	b.lib.TryAcquirePermit() // taken and given back at once: what is under way is counted here
	if v == failed {
		b.lib.RecordFailure()
	} else {
		b.lib.RecordSuccess()
	}
	if after, _ = b.state(); after != before {
		b.turn()
	}
	return before, after
}

// Breaker lets attempts pass unless the circuit breaker of their endpoint is
// open, and tells it how they went. degrades says that the action has a fallback
// for the time that it is open. What a person asks for passes always, and says
// nothing to it.
func (t *Traffic) Breaker(degrades bool) observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			if d.Endpoint == "" || d.ClaimedFrom == observer.Dead {
				return next.Execute(ctx, d)
			}
			k, until, ok := t.enter(ctx, d.Endpoint, degrades)
			switch {
			case !ok:
				return notTried(fmt.Errorf("not sent to %s: %w until %s", d.Endpoint, ErrOpen, until.UTC().Format(time.RFC3339)), until)
			case k == nil:
				return next.Execute(ctx, d)
			}
			judged := saysNothing
			defer func() { t.judge(k, judged) }()
			result, err := next.Execute(context.WithValue(ctx, ticketKey{}, k), d)
			judged = verdictOf(ctx, err)
			return result, err
		})
	}
}

// enter gives the ticket of an attempt: the one it was admitted with, or one of
// its own. It is nil where nothing bounds the endpoint.
func (t *Traffic) enter(ctx context.Context, endpoint string, degrades bool) (k *ticket, until time.Time, ok bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	k = ticketOf(ctx, endpoint)
	if k != nil && !k.passed {
		k.passed, k.guard.degrades = true, k.guard.degrades || degrades
		return k, time.Time{}, true
	}
	g := t.of(endpoint, now)
	if g == nil {
		return nil, time.Time{}, true
	}
	g.degrades = g.degrades || degrades
	k = &ticket{traffic: t, guard: g, passed: true}
	if until, ok = k.pass(now); ok {
		g.flying++
	}
	return k, until, ok
}

// judge tells the breaker how an attempt went, and others what follows of it.
func (t *Traffic) judge(k *ticket, v verdict) {
	now := time.Now()
	t.mu.Lock()
	g := k.guard
	if !k.admitted {
		g.flying--
	}
	before, after := k.told(v, now)
	if after == BreakerOpen {
		t.shut[g.name] = g
	}
	wake := t.wake
	t.mu.Unlock()
	switch {
	case before == after && before != BreakerHalfOpen:
		return
	case before != after && after == BreakerClosed:
		t.cfg.Logger.Info("circuit breaker closed; the endpoint has recovered", "endpoint", g.name)
		t.cfg.Closed(g.name)
	case before != after:
		t.cfg.Logger.Warn("circuit breaker opened; what is for the endpoint waits",
			slog.String("endpoint", g.name), slog.Bool("again", before == BreakerHalfOpen), slog.Duration("open_for", g.breaker.cfg.OpenFor))
	}
	wake()
}
