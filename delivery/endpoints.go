package delivery

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// EndpointsConfig says when an endpoint is slow, paused and probed.
type EndpointsConfig struct {
	// Store shares what is known with other processes. Required.
	Store observer.DeliveryStore
	// DisableAfter is how long an endpoint may fail without a success before it
	// is paused; 0 is for ever.
	DisableAfter time.Duration
	// ProbeInterval is the time between two attempts at an endpoint that is
	// paused because it failed; one minute when zero.
	ProbeInterval time.Duration
	// Slow is how long an attempt may take before lanes no longer wait for the
	// endpoint; 2 s when zero.
	Slow time.Duration
	// Paused is told of every pause that begins in this process, once it is
	// stored; nil tells nobody. It must not call the Endpoints.
	Paused func(ctx context.Context, e observer.Endpoint)
	// Resumed is told of every pause that was ended elsewhere, by a person or by a
	// success of another process, before anything is sent; nil tells nobody. It
	// must not call the Endpoints.
	Resumed func(endpoint string)
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

func (c EndpointsConfig) withDefaults() EndpointsConfig {
	if c.ProbeInterval <= 0 {
		c.ProbeInterval = time.Minute
	}
	if c.Slow <= 0 {
		c.Slow = 2 * time.Second
	}
	if c.Resumed == nil {
		c.Resumed = func(string) {}
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// Endpoints is the health of the receivers, as this process and, through the
// store, others saw it. It is safe for concurrent use. Make one with
// [NewEndpoints].
//
// An endpoint of which nothing is known works. Ten failures in a row make it one
// that fails hard: few attempts run at once until one succeeds. One that failed
// for a long time, or said that it is gone, is paused. After a recovery what
// waited leaves at a rate that doubles every second.
type Endpoints struct {
	cfg EndpointsConfig

	mu    sync.Mutex
	known map[string]*health
	wake  func()

	// storing is held while the rows are read and written, so that what was read
	// is not older than what this process wrote since.
	storing sync.Mutex
}

// NewEndpoints returns endpoints of which nothing is known.
func NewEndpoints(cfg EndpointsConfig) *Endpoints {
	return &Endpoints{cfg: cfg.withDefaults(), known: map[string]*health{}, wake: func() {}}
}

// Ready reports whether a lane may try the endpoint in line: it is not paused,
// slow, failing hard or recovering. The endpoint "" always is.
func (e *Endpoints) Ready(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	h := e.known[name]
	return h == nil || h.ready(time.Now())
}

// Outlasted notes that an attempt took longer than its lane could wait: the
// endpoint is slow until an attempt ends well within the time for that.
func (e *Endpoints) Outlasted(name string) {
	if name == "" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.of(name).slow = true
}

// Attempted notes an attempt that just ended, in a lane or in a worker. It
// touches the store only when the endpoint begins or ends to be in trouble, and
// does not fail: what cannot be stored is stored by the next Refresh.
func (e *Endpoints) Attempted(ctx context.Context, name string, took time.Duration, err error) {
	if name == "" {
		return
	}
	switch {
	case !e.note(name, took, err, err == nil || countsAgainst(ctx, err)):
		return
	case !e.storing.TryLock():
		return // somebody is about it, or the next Refresh is
	}
	defer e.storing.Unlock()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleGrace)
	defer cancel()
	if err := e.save(ctx); err != nil {
		e.cfg.Logger.Warn("the state of an endpoint cannot be stored; trying again", "endpoint", name, "error", err)
	}
}

// countsAgainst reports whether a failure says something about the receiver.
func countsAgainst(ctx context.Context, err error) bool {
	switch observer.ReasonOf(err) {
	case observer.ReasonTemplate, observer.ReasonCondition, observer.ReasonTooLarge,
		observer.ReasonUnconfigured, observer.ReasonMalformed, observer.ReasonExpired:
		return false
	default:
		return ctx.Err() == nil && !errors.Is(err, context.Canceled)
	}
}

// note takes an attempt into account, and reports whether the store has to be
// told.
func (e *Endpoints) note(name string, took time.Duration, err error, telling bool) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.known[name] == nil && err == nil && took <= e.cfg.Slow {
		return false // it works, and that is all there is to know
	}
	now := time.Now()
	h := e.of(name)
	defer e.forget(name, h)
	switch {
	case took > e.cfg.Slow:
		h.slow = true
	case telling && took <= e.cfg.Slow/2:
		h.slow = false
	}
	if !telling {
		if !observer.Retryable(err) {
			h.notStarted(now) // it never came as far as the receiver
		}
		return false
	}
	h.version++
	known := !h.dirty
	switch {
	case err != nil:
		h.failed(now, now.Add(-took), err)
		e.judge(name, h, now, err)
	case h.succeeded(now):
		e.cfg.Logger.Info("endpoint recovered", "endpoint", name, "growing_rate", !h.ramp.IsZero())
		e.wake()
	}
	return known && h.dirty
}

// judge pauses an endpoint after a failure if it has to be.
func (e *Endpoints) judge(name string, h *health, now time.Time, cause error) {
	var why observer.Pause
	switch {
	case observer.ReasonOf(cause) == observer.ReasonGone && (h.pause == observer.NotPaused || h.pause == observer.PausedFailing):
		why = observer.PausedGone
	case h.pause == observer.NotPaused && e.cfg.DisableAfter > 0 &&
		!h.failingSince.IsZero() && now.Sub(h.failingSince) >= e.cfg.DisableAfter:
		why = observer.PausedFailing
	default:
		return
	}
	h.pauseFor(why, now, e.cfg.ProbeInterval)
	e.cfg.Logger.Error("endpoint paused; what is for it waits", "endpoint", name, "pause", string(why),
		"failing_since", h.failingSince, "error", cause)
}

// of is what is known about an endpoint.
func (e *Endpoints) of(name string) *health {
	h := e.known[name]
	if h == nil {
		h = &health{}
		e.known[name] = h
	}
	return h
}

// forget keeps in memory only endpoints that do not simply work.
func (e *Endpoints) forget(name string, h *health) {
	if h.ramping(time.Now()); h.works() {
		delete(e.known, name)
	}
}

// onChange has wake called, with nothing of this package locked that it could
// need, when an endpoint may take more than before.
func (e *Endpoints) onChange(wake func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wake = wake
}

// allowance is how many more attempts may begin at an endpoint.
func (e *Endpoints) allowance(name string, running, hard int) int {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.known[name]; h != nil {
		return h.allowance(time.Now(), running, hard)
	}
	return math.MaxInt
}

// started notes that an attempt begins at an endpoint.
func (e *Endpoints) started(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.known[name]; h != nil {
		h.start(time.Now(), e.cfg.ProbeInterval)
	}
}

// Untried notes that a stored delivery to an endpoint was decided without an
// attempt, as one that is too old is. The probe of an endpoint that is paused is
// then still to be made: with thousands of such deliveries in front, it would
// hardly ever be.
func (e *Endpoints) Untried(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.known[name]; h != nil {
		h.notStarted(time.Now())
	}
}

// Recovered notes that a circuit breaker here found the endpoint to work again
// after nothing was sent there. What waited leaves with a ramp, as after every
// recovery: that is the slow start, and there is no other.
func (e *Endpoints) Recovered(name string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if h := e.of(name); h.pause == observer.NotPaused {
		h.ramp, h.started = time.Now(), 0
		e.wake()
	} else {
		e.forget(name, h)
	}
}

// opens is when time alone next lets an attempt begin somewhere, zero when it
// will not.
func (e *Endpoints) opens() time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	now, first := time.Now(), time.Time{}
	for _, h := range e.known {
		if at := h.opens(now); !at.IsZero() && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	return first
}
