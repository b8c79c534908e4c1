package lease

import (
	"context"
	"errors"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// tenancy is the time in which this process holds a name, or is a member.
type tenancy struct {
	name   string // "" of a member, which has no run
	lease  observer.Lease
	held   *Held
	began  time.Time
	ctx    context.Context //nolint:containedctx // it is that of the run, which is ended from elsewhere
	cancel context.CancelCauseFunc

	leaving bool // the run is to end, or has ended; guarded by the group
}

func newTenancy(ctx context.Context, name string, l observer.Lease, h *Held) *tenancy {
	t := &tenancy{name: name, lease: l, held: h, began: time.Now()}
	t.ctx, t.cancel = context.WithCancelCause(ctx)
	return t
}

// leave has the run end.
func (t *tenancy) leave(why error) {
	if !t.leaving {
		t.leaving = true
		t.cancel(why)
	}
}

// tenant runs a name and gives it back.
func (g *Group) tenant(t *tenancy, run RunFunc) {
	err := run(t.ctx, t.name, t.held)
	if errors.Is(err, observer.ErrFenced) && t.held.Err() == nil {
		// The store refused something under its term before it refused a renewal.
		t.held.doubt()
		g.lose(context.WithoutCancel(t.ctx), []*tenancy{t})
	}
	failed := t.ctx.Err() == nil && !errors.Is(err, observer.ErrFenced)
	g.note(t, failed)
	switch {
	case failed:
		g.cfg.Logger.Error("lease given back, because what it is for ended; trying again later", "lease", t.lease.Name, "error", err)
	case t.held.Err() != nil: // that was logged
	default:
		g.cfg.Logger.Info("lease given back", "lease", t.lease.Name, "term", t.lease.Term, "reason", context.Cause(t.ctx))
	}
	t.cancel(nil)
	// Nobody here may trust it before others may have it.
	if t.held.end(givenBack(t.lease.Name)) {
		g.releaseSurely(context.WithoutCancel(t.ctx), t)
	}
	g.mu.Lock()
	delete(g.tenancies, t.name)
	g.mu.Unlock()
}

// note takes note of how a run ended. One that lasted for longer than a lease did
// not fail at once, like those before it.
func (g *Group) note(t *tenancy, failed bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	t.leaving = true
	f := g.failed[t.name]
	if time.Since(t.began) >= g.cfg.TTL {
		f = failure{}
	}
	if failed {
		f.count++
		f.until = time.Now().Add(g.cfg.Retry.Delay(f.count))
	}
	g.failed[t.name] = f
}

// releaseSurely gives a lease back, for as long as it would run otherwise.
func (g *Group) releaseSurely(ctx context.Context, t *tenancy) {
	for !g.release(ctx, t.lease) && time.Now().Before(t.held.expires(g.cfg.TTL)) {
		backoff.Wait(ctx, nil, g.cfg.Poll)
	}
}

func (g *Group) release(ctx context.Context, l observer.Lease) (released bool) {
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	err := g.cfg.Store.ReleaseLease(ctx, l)
	if err != nil {
		g.cfg.Logger.Debug("lease could not be given back", "lease", l.Name, "error", err)
	}
	return err == nil
}
