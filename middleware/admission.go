package middleware

import (
	"context"
	"math"
	"time"

	"github.com/fraiseql/observer"
)

// ticket is what one attempt has been admitted with.
type ticket struct {
	traffic *Traffic
	guard   *guard // nil where nothing bounds the endpoint
	// epoch is that of the breaker when it let the attempt pass, and probe says
	// that it did so on probation.
	epoch int
	probe bool
	// slot and token are of the limits.
	slot, token bool
	// asking: it is about to ask for the turn that all processes share, or does.
	asking bool
	// admitted: a worker had it before the chain; passed: the breaker layer has it.
	admitted, passed bool
}

type ticketKey struct{}

// ticketOf is the ticket under which ctx has been admitted to an endpoint, if
// it was for that endpoint.
func ticketOf(ctx context.Context, endpoint string) *ticket {
	k, _ := ctx.Value(ticketKey{}).(*ticket)
	if k == nil || k.guard == nil || k.guard.name != endpoint {
		return nil
	}
	return k
}

// Admit admits one attempt of a stored delivery to endpoint, which then runs
// under the context that it gives, and takes what the attempt needs. leave must
// be called at its end, and gives back what it did not use. ok is false when the
// endpoint takes none now.
func (t *Traffic) Admit(ctx context.Context, endpoint string) (admitted context.Context, leave func(), ok bool) {
	if endpoint == "" {
		return ctx, func() {}, true
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.of(endpoint, now)
	if g == nil {
		return ctx, func() {}, true
	}
	k := &ticket{traffic: t, guard: g}
	if g.degraded() { // the chain hands it over instead of trying
		return ctx, func() {}, true
	}
	if _, ok := k.pass(now); !ok {
		t.shut[endpoint] = g
		return ctx, func() {}, false
	}
	if g.limits.available(now) <= 0 {
		k.back()
		t.shut[endpoint] = g
		return ctx, func() {}, false
	}
	k.admitted = true
	g.flying++
	k.takeSlot()
	k.takeToken(now)
	if t.cfg.Shared != nil && !g.limits.cfg.none() {
		k.startAsking()
	}
	if g.limits.available(now) <= 0 {
		t.fallBehind(g)
	}
	return context.WithValue(ctx, ticketKey{}, k), k.leave, true
}

// fallBehind has lanes store what is for an endpoint behind what is there.
func (t *Traffic) fallBehind(g *guard) {
	g.backlog, g.usedUp = true, true
	t.behind[g.name] = g
}

// Look is called by a worker before it looks for what is due, and the function it
// gives after that. What has a backlog and was neither refused nor given the last
// place meanwhile has none any more.
func (t *Traffic) Look() (looked func(more bool)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking = true
	for _, g := range t.behind {
		g.usedUp = false
	}
	return t.looked
}

// looked ends a look. more says that there was too little time or room to see
// everything that is due.
func (t *Traffic) looked(more bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.looking = false
	for name, g := range t.behind {
		if !more && !g.usedUp {
			g.backlog = false
			delete(t.behind, name)
		}
	}
}

// leave gives back what an attempt has not used, and its place.
func (k *ticket) leave() {
	k.give(func() {
		k.guard.flying--
		k.back()
	})
}

// give gives something back, and tells the worker that was refused it.
func (k *ticket) give(back func()) {
	t := k.traffic
	t.mu.Lock()
	had := k.probe || k.slot || k.token || k.asking
	back()
	wake := t.wake
	waited := had && t.shut[k.guard.name] != nil
	t.mu.Unlock()
	if waited {
		wake()
	}
}

// back gives everything back that the ticket still has.
func (k *ticket) back() {
	g := k.guard
	if k.probe && k.epoch == g.breaker.epoch {
		g.breaker.probing--
	}
	k.probe = false
	k.backTurn()
}

// Allowance is how many more attempts at endpoint a worker may begin now. It is
// asked by workers only.
func (t *Traffic) Allowance(endpoint string) int {
	if endpoint == "" {
		return math.MaxInt
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	g := t.guards[endpoint]
	if g == nil {
		l := limits{cfg: t.cfg.Rules(endpoint).Limits}
		return l.available(now)
	}
	if g.degraded() {
		return math.MaxInt
	}
	probes, limit := math.MaxInt, g.limits.available(now)
	if g.breaker != nil {
		probes = g.breaker.allowance()
	}
	if t.looking && limit <= 0 {
		t.fallBehind(g)
	}
	n := max(min(probes, limit), 0)
	if n == 0 {
		t.shut[endpoint] = g
	} else {
		delete(t.shut, endpoint)
	}
	return n
}

// Opens is when time alone next lets an attempt begin at an endpoint that has
// refused one, zero when it will not. Each such time is given until it has come.
func (t *Traffic) Opens() time.Time {
	now, first := time.Now(), time.Time{}
	t.mu.Lock()
	defer t.mu.Unlock()
	for name, g := range t.shut {
		at := g.opens(now)
		if at.IsZero() {
			continue
		}
		if !at.After(now) {
			delete(t.shut, name)
		}
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	return first
}

// opens is when time alone lets an attempt begin, zero when it does not.
func (g *guard) opens(now time.Time) time.Time {
	at := g.limits.next(now)
	if at.IsZero() || g.breaker == nil {
		return at
	}
	switch state, remaining := g.breaker.state(); {
	case state == BreakerOpen && now.Add(remaining).After(at):
		return now.Add(remaining)
	case state == BreakerHalfOpen && g.breaker.allowance() == 0:
		return time.Time{} // the end of a probe tells
	}
	return at
}

// OnChange has wake called, with nothing locked, when an endpoint may take more
// than before for another reason than time.
func (t *Traffic) OnChange(wake func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wake = wake
}

// notTried is an error that says from when on an attempt may be made.
func notTried(err error, until time.Time) (observer.Result, error) {
	return observer.Result{}, observer.NotTried(err, until)
}
