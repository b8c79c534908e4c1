package lease

import (
	"context"
	"errors"
	"time"
)

// memberPrefix begins the names of the leases that make members, after the prefix
// of the group.
const memberPrefix = "member/"

// enrol makes this process a member, or none while there is a name that it could
// not run: then the others take what it cannot.
func (g *Group) enrol(ctx context.Context, v view) error {
	if g.failing(v) {
		g.resign(ctx)
		return nil
	}
	g.mu.Lock()
	member := g.member
	g.mu.Unlock()
	if member != nil {
		return nil
	}
	asked := time.Now()
	bounded, cancel := g.bounded(ctx)
	defer cancel()
	l, err := g.cfg.Store.AcquireLease(bounded, g.cfg.Prefix+memberPrefix+g.holder, g.holder, g.cfg.TTL)
	if err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.member = newTenancy(ctx, "", l, newHeld(l, asked, g.window(), g.ask))
	return nil
}

// leave gives back what this member holds in the store, also what it does not know
// of because it ended before the answer came.
func (g *Group) leave(ctx context.Context) {
	g.resign(ctx)
	bounded, cancel := g.bounded(ctx)
	defer cancel()
	all, err := g.cfg.Store.Leases(bounded, g.cfg.Prefix)
	if err != nil {
		g.cfg.Logger.Debug("leases cannot be read at the end; they run out", "group", g.cfg.Prefix, "error", err)
	}
	for _, l := range all {
		if l.Holder == g.holder {
			g.release(ctx, l)
		}
	}
}

// failing reports whether a name waits here for others to try it, and forgets
// failures of names that are shared no more.
func (g *Group) failing(v view) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	now, failing := time.Now(), false
	for name, f := range g.failed {
		if _, wanted := v.names[name]; !wanted {
			delete(g.failed, name)
			continue
		}
		failing = failing || now.Before(f.until)
	}
	return failing
}

// resign ends the membership. When the store is away it ends by itself.
func (g *Group) resign(ctx context.Context) {
	g.mu.Lock()
	member := g.member
	g.member = nil
	g.mu.Unlock()
	if member == nil {
		return
	}
	member.cancel(nil)
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	if err := g.cfg.Store.ReleaseLease(ctx, member.lease); err != nil && !errors.Is(err, context.Canceled) {
		g.cfg.Logger.Debug("lease of a member could not be given back; it runs out", "group", g.cfg.Prefix, "error", err)
	}
}
