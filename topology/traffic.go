package topology

import (
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/middleware"
)

// trafficOf regulates what goes to each endpoint, as cfg says. When a breaker
// closes, the slow start is the ramp that endpoints know after every recovery.
func (t *Topology) trafficOf(cfg *config.Config, endpoints *delivery.Endpoints) *middleware.Traffic {
	return middleware.NewTraffic(middleware.TrafficConfig{
		Rules:  func(endpoint string) middleware.Rules { return rulesOf(cfg.Rules(endpoint)) },
		Closed: endpoints.Recovered, Logger: t.logger,
	})
}

func rulesOf(b config.Breaker, l config.Limits) middleware.Rules {
	return middleware.Rules{
		Breaker: middleware.BreakerConfig{
			Enabled: b.Enabled, FailureRate: b.FailureRate, MinCalls: b.MinCalls, Window: b.Window, OpenFor: b.OpenFor, Probes: b.Probes,
		},
		Limits: middleware.LimitsConfig{MaxConcurrent: l.MaxConcurrent, Rate: l.Rate, Burst: l.Burst},
	}
}

// Breakers is what this process, and no other, knows about the circuit breakers
// and limits of endpoints that were used lately, by name.
func (t *Topology) Breakers() []middleware.Guarded { return t.layers.traffic.Guarded() }

// lanePatience is how long a delivery waits in its lane for its turn at an
// endpoint that has limits.
const lanePatience = 250 * time.Millisecond

// fallbackName stands in place of the observer's in the deliveries of its
// fallbacks. No observer can be called so.
func fallbackName(observer string) string { return "@fallback." + observer }

// fallbackOf is the layer that hands the deliveries of an action over to its
// fallback; none without one.
func (l *layers) fallbackOf(o config.Observer, a config.Action) Layer {
	if a.Fallback == nil {
		return Layer{}
	}
	return Layer{"fallback", aboutFallback(*a.Fallback), func() observer.Middleware[observer.Action] {
		prints := fallbackPrints(o)
		f := &middleware.Fallback{
			WhenOpen: a.Fallback.When == config.WhenOpen, Keep: l.keep, Wake: l.worker.Wake, Logger: l.logger,
			Delivery: func(d *observer.Delivery) *observer.Delivery {
				other := observer.NewDelivery(d.Event, fallbackName(d.Observer), d.Action, a.Fallback.Action.Type)
				other.Priority, other.Prints = d.Priority, prints
				return other
			},
		}
		return f.Middleware()
	}}
}

// fallbackPrints are the fingerprints of the fallbacks of o, "" where an action has
// none.
func fallbackPrints(o config.Observer) []string {
	prints := make([]string, len(o.Actions))
	for i, a := range o.Actions {
		if a.Fallback != nil {
			prints[i] = a.Fallback.Action.Print()
		}
	}
	return prints
}

// degrades reports whether the fallback of a runs while the breaker is open.
func degrades(a config.Action) bool {
	return a.Fallback != nil && a.Fallback.When == config.WhenOpen
}
