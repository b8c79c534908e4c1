package topology

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/redis"
)

// trafficOf is the health of the endpoints, and what regulates what goes to each,
// as cfg says. They tell each other: when a breaker closes, the slow start is the
// ramp that endpoints know after every recovery, and when a pause ends, the breaker
// begins anew.
func (t *Topology) trafficOf(cfg *config.Config, shared middleware.SharedLimits) (*delivery.Endpoints, *middleware.Traffic) {
	var traffic *middleware.Traffic
	endpoints := delivery.NewEndpoints(delivery.EndpointsConfig{
		Store: t.Store, DisableAfter: cfg.Endpoints.DisableAfter, ProbeInterval: cfg.Endpoints.ProbeInterval,
		Paused: t.paused, Resumed: func(endpoint string) { traffic.Resumed(endpoint) }, Logger: t.logger,
	})
	traffic = middleware.NewTraffic(middleware.TrafficConfig{
		Rules:  func(endpoint string) middleware.Rules { return rulesOf(cfg.Rules(endpoint)) },
		Closed: endpoints.Recovered, Shared: shared, Logger: t.logger,
	})
	return endpoints, traffic
}

// shareLimits has all processes keep the limits together; nil without Redis.
func (t *Topology) shareLimits(cfg redis.LimiterConfig) middleware.SharedLimits {
	if t.redis == nil {
		return nil
	}
	cfg.Changed = t.limitsChanged
	t.limiter = redis.NewLimiter(t.redis, cfg)
	return sharedLimits{t.limiter, t.Counters}
}

// limitsChanged tells who keeps the limits of endpoints from now on.
func (t *Topology) limitsChanged(err error) {
	if err != nil {
		t.logger.Warn("the limits of endpoints hold for each process alone until Redis answers again", "error", err)
		return
	}
	t.logger.Info("the limits of endpoints hold for all processes together again")
}

// sharedLimits has Redis count the turns of all processes.
type sharedLimits struct {
	limiter  *redis.Limiter
	counters *middleware.Counters
}

// Take implements [middleware.SharedLimits]. Invariant 8: a Redis that is away
// keeps nothing from being sent.
func (s sharedLimits) Take(ctx context.Context, q middleware.TurnRequest) middleware.SharedTurn {
	grant, err := s.limiter.Take(ctx, redis.Turn{
		Endpoint: q.Endpoint, MaxConcurrent: q.Limits.MaxConcurrent, Rate: q.Limits.Rate, Burst: q.Limits.BurstOrDefault(),
		Ahead: q.Ahead, Starved: q.Starved,
	})
	if err != nil {
		s.counters.LimitedAlone()
	}
	turn := middleware.SharedTurn{Wait: grant.Wait}
	if grant.OK {
		turn.End = func(ctx context.Context, used bool) { s.limiter.Give(ctx, grant, used) }
	}
	return turn
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
