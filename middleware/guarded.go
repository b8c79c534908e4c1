package middleware

import (
	"cmp"
	"slices"
	"time"

	"github.com/failsafe-go/failsafe-go/circuitbreaker"
)

// Guarded is what this process knows about an endpoint that has a breaker or
// limits.
type Guarded struct {
	Endpoint string
	// State is that of its breaker, "" when it has none, and Until the end of its
	// being open.
	State BreakerState
	Until time.Time
	// Calls and Failures are those within the window before the last call of a
	// closed breaker, those that opened an open one, and the probes that ended of one
	// that is half-open.
	Calls, Failures int
	// Probing are the probes under way.
	Probing int
	// Running are the attempts under way that the limits count; 0 without limits.
	Running int
	// Limits are those of the endpoint.
	Limits LimitsConfig
	// Backlog: more is stored for it than its limits let pass.
	Backlog bool
}

// Guarded lists what is known in this process, by endpoint. What has been idle for
// a while is not known.
func (t *Traffic) Guarded() []Guarded {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sweep(now)
	list := make([]Guarded, 0, len(t.guards))
	for name, g := range t.guards {
		shown := Guarded{Endpoint: name, Running: g.limits.running, Limits: g.limits.cfg, Backlog: g.backlog}
		if b := g.breaker; b != nil {
			b.show(&shown, now, g.used)
		}
		list = append(list, shown)
	}
	slices.SortFunc(list, func(a, b Guarded) int { return cmp.Compare(a.Endpoint, b.Endpoint) })
	return list
}

func (b *breaker) show(to *Guarded, now, used time.Time) {
	state, remaining := b.state()
	to.State, to.Probing = state, b.probing
	stats := b.lib.Metrics()
	to.Calls, to.Failures = int(stats.Executions()), int(stats.Failures())
	switch {
	case state == BreakerOpen:
		to.Until = now.Add(remaining)
	case state == BreakerHalfOpen && b.lib.State() == circuitbreaker.OpenState, now.Sub(used) > b.cfg.Window:
		to.Calls, to.Failures = 0, 0 // nobody has probed yet, or they have left the window
	}
}
