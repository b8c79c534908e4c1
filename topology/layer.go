package topology

import (
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
)

// Layer is one of those that a delivery goes through on its way to its action.
type Layer struct {
	Name string `json:"name"`
	// Detail says in words what it does, with the settings of the action.
	Detail string `json:"detail"`

	// wrap makes it. It is not called where the layers are only explained, and
	// nothing is there that it would need.
	wrap func() observer.Middleware[observer.Action]
}

// inForce are those of layers that there are for an action: the others are zero.
func inForce(layers ...Layer) []Layer {
	return slices.DeleteFunc(layers, func(y Layer) bool { return y.wrap == nil })
}

// compose makes what layers say, outermost first.
func compose(layers []Layer) observer.Middleware[observer.Action] {
	made := make([]observer.Middleware[observer.Action], len(layers))
	for i, y := range layers {
		made[i] = y.wrap()
	}
	return observer.Chain(made...)
}

// receiver is what is known of who receives the deliveries of an action before
// there is one.
type receiver struct {
	// any is false for an action that reaches nobody. Nothing regulates it.
	any bool
	// endpoint is "" where the event decides.
	endpoint string
	// breaker and limits are those of the endpoint; where the event decides, those
	// of receivers without an override. others are the overrides then.
	breaker config.Breaker
	limits  config.Limits
	others  []config.Override
}

// receiverOf asks an action who receives a delivery of no event.
func (l *layers) receiverOf(act observer.Action) receiver {
	preparer, ok := act.(observer.Preparer)
	if !ok {
		return receiver{}
	}
	r := receiver{any: true, endpoint: preparer.Endpoint(l.begun, &observer.Delivery{})}
	if r.endpoint != "" {
		r.breaker, r.limits = l.cfg.Rules(r.endpoint)
		return r
	}
	r.breaker, r.limits, r.others = l.cfg.Breaker, l.cfg.Limits, l.cfg.Endpoints.Overrides
	return r
}

// breakerOf is the layer of the circuit breaker; none where no receiver of the
// action has one.
func (l *layers) breakerOf(a config.Action, to receiver) Layer {
	if !to.some(func(b config.Breaker, _ config.Limits) bool { return b.Enabled }) {
		return Layer{}
	}
	return Layer{"breaker", aboutBreaker(to), func() observer.Middleware[observer.Action] { return l.traffic.Breaker(degrades(a)) }}
}

// limitOf is the layer of the limits. The turns of an endpoint are counted with
// the ticket that the breaker's layer gives, so without a breaker that is a part
// of it.
func (l *layers) limitOf(a config.Action, to receiver, patience time.Duration) Layer {
	if !to.some(func(_ config.Breaker, l config.Limits) bool { return limited(l) }) {
		return Layer{}
	}
	breaker := l.breakerOf(a, to)
	return Layer{"limit", aboutLimits(a, to, patience), func() observer.Middleware[observer.Action] {
		if breaker.wrap != nil {
			return l.traffic.Limit(patience)
		}
		return observer.Chain(l.traffic.Breaker(degrades(a)), l.traffic.Limit(patience))
	}}
}

// limited reports whether limits bound anything.
func limited(l config.Limits) bool { return l.MaxConcurrent > 0 || l.Rate > 0 }

// reportOf is the layer that tells of the health of the receiver.
func (l *layers) reportOf(to receiver) Layer {
	if !to.any {
		return Layer{}
	}
	return Layer{"report", aboutHealth(l.cfg.Endpoints), func() observer.Middleware[observer.Action] {
		return middleware.Report(l.endpoints.Attempted)
	}}
}

// some reports whether rules hold for a receiver of the action, or may.
func (r receiver) some(hold func(config.Breaker, config.Limits) bool) bool {
	return r.any && (hold(r.breaker, r.limits) ||
		slices.ContainsFunc(r.others, func(o config.Override) bool { return hold(o.Breaker, o.Limits) }))
}
