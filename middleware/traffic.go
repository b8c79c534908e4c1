package middleware

import (
	"log/slog"
	"sync"
	"time"
)

// Rules bound what is sent to one endpoint.
type Rules struct {
	Breaker BreakerConfig
	Limits  LimitsConfig
}

func (r Rules) none() bool { return !r.Breaker.Enabled && r.Limits.none() }

// TrafficConfig says what holds for which endpoint.
type TrafficConfig struct {
	// Rules gives those of an endpoint; nil bounds nothing. It is called often.
	Rules func(endpoint string) Rules
	// Closed is told that a breaker closed: the endpoint has recovered. Nil tells
	// nobody.
	Closed func(endpoint string)
	// Shared has several processes keep the limits together; with nil each keeps
	// them for itself.
	Shared SharedLimits
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// Traffic regulates what this process sends to each endpoint: it has a circuit
// breaker and limits for each, shared by all actions and all of their lanes and
// workers. What nobody has used for a while costs no memory. It is safe for
// concurrent use. Make one with [NewTraffic].
//
// Lanes and workers share the limits of an endpoint so that neither starves.
// While there is more in the store than may be sent, its lanes send nothing and
// store theirs behind it: what came first leaves first. Limits that are shared
// with other processes are asked for a turn after those.
type Traffic struct {
	cfg TrafficConfig

	mu     sync.Mutex
	guards map[string]*guard
	// shut are those that have refused a worker, or are open; behind are those with
	// a backlog.
	shut, behind map[string]*guard
	// looking: a worker looks for what is due.
	looking bool
	swept   time.Time
	wake    func()
}

// sweepEvery is how often what nobody uses any more is looked for.
const sweepEvery = 10 * time.Second

// NewTraffic returns traffic of which nothing is known.
func NewTraffic(cfg TrafficConfig) *Traffic {
	if cfg.Rules == nil {
		cfg.Rules = func(string) Rules { return Rules{} }
	}
	if cfg.Closed == nil {
		cfg.Closed = func(string) {}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	return &Traffic{cfg: cfg, guards: map[string]*guard{}, shut: map[string]*guard{}, behind: map[string]*guard{}, swept: time.Now(), wake: func() {}}
}

// guard is what regulates one endpoint. It is used with the lock of its traffic
// held.
type guard struct {
	name    string
	breaker *breaker // nil when there is none
	limits  limits
	// used is when it last had something to do, flying how much it has to do now.
	used   time.Time
	flying int
	// degrades: an action has a fallback for the time that the breaker is open, so
	// that workers claim then too.
	degrades bool
	// backlog: there is more in the store than may be sent, or may be. used up: a
	// worker that looked for it was refused, or has taken the last there was.
	backlog, usedUp bool
}

// of is the guard of an endpoint, nil where nothing bounds it.
func (t *Traffic) of(endpoint string, now time.Time) *guard {
	if now.Sub(t.swept) >= sweepEvery {
		t.sweep(now)
	}
	if g := t.guards[endpoint]; g != nil {
		return g
	}
	rules := t.cfg.Rules(endpoint)
	if rules.none() {
		return nil
	}
	g := &guard{name: endpoint, breaker: newBreaker(rules.Breaker), limits: limits{cfg: rules.Limits}, used: now}
	t.guards[endpoint] = g
	return g
}

// sweep forgets what has been idle for so long that there is nothing to know.
func (t *Traffic) sweep(now time.Time) {
	t.swept = now
	for name, g := range t.guards {
		if g.idle(now) {
			delete(t.guards, name)
			delete(t.shut, name)
			delete(t.behind, name)
		}
	}
}

// idle reports whether a new guard would do just as well. A breaker that nobody
// has probed for a whole window is forgotten too: its endpoint may be one of an
// address that no event will ever have again.
func (g *guard) idle(now time.Time) bool {
	if g.flying > 0 || !g.limits.idle(now) {
		return false
	}
	return g.breaker == nil || g.breaker.idle(now, g.used)
}

// InLane reports whether a delivery to endpoint may be tried in its lane. When
// not, it may be after wait at the earliest, by a worker: what a breaker probes
// and what waits for its turn are the workers'.
func (t *Traffic) InLane(endpoint string) (wait time.Duration, ready bool) {
	if t == nil || endpoint == "" {
		return 0, true
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.guards[endpoint]
	if g == nil {
		return 0, true
	}
	if g.breaker != nil {
		if state, remaining := g.breaker.state(); state != BreakerClosed {
			return remaining, false
		}
	}
	if g.backlog {
		return 0, false
	}
	if at := g.limits.next(now); at.IsZero() || at.Sub(now) > moment {
		t.fallBehind(g) // with this one
		return 0, false
	}
	return 0, true
}

// Degraded reports whether the breaker of endpoint is open, so that a fallback
// may run.
func (t *Traffic) Degraded(endpoint string) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.guards[endpoint]
	if g == nil || g.breaker == nil {
		return false
	}
	state, _ := g.breaker.state()
	return state == BreakerOpen
}

// degraded reports whether the breaker is open and an action has a fallback for
// that.
func (g *guard) degraded() bool {
	if !g.degrades || g.breaker == nil {
		return false
	}
	state, _ := g.breaker.state()
	return state == BreakerOpen
}

// Resumed closes the breaker of an endpoint whose pause has ended: somebody knows
// that it works again, or wants it tried. What began before says nothing to it any
// more, and [TrafficConfig].Closed is not told.
func (t *Traffic) Resumed(endpoint string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.guards[endpoint]
	if g == nil || g.breaker == nil {
		return
	}
	b := g.breaker
	if state, _ := b.state(); state == BreakerClosed {
		return
	}
	b.lib.Close()
	b.turn()
	t.cfg.Logger.Info("circuit breaker closed; the endpoint was resumed", "endpoint", endpoint)
}
