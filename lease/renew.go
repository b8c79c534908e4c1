package lease

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
)

// keepRenewing renews all leases at a third of their length, and earlier when
// somebody waits for that, until ctx ends.
func (g *Group) keepRenewing(ctx context.Context) {
	var last error
	for {
		if !g.rest(ctx, last) {
			return
		}
		err := g.renew(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && last == nil:
			g.cfg.Logger.Warn("leases cannot be renewed; trying again", "group", g.cfg.Prefix, "error", err)
		case err == nil && last != nil:
			g.cfg.Logger.Info("leases can be renewed again", "group", g.cfg.Prefix)
		}
		last = err
	}
}

// rest waits until it is time to renew. After a failure nobody makes that earlier.
func (g *Group) rest(ctx context.Context, failed error) bool {
	wait, kick := g.cfg.TTL/3, g.kick
	if failed != nil {
		wait, kick = min(g.cfg.Poll, g.cfg.TTL/10), nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-kick:
	case <-ctx.Done():
		return false
	}
	return true
}

// renew renews all leases in one statement.
func (g *Group) renew(ctx context.Context) error {
	tenancies, leases := g.renewable()
	if len(leases) == 0 {
		return nil
	}
	asked := time.Now()
	bounded, cancel := g.bounded(ctx)
	defer cancel()
	answer, err := g.cfg.Store.RenewLeases(bounded, g.cfg.TTL, leases...)
	if err != nil {
		return err
	}
	held := make(map[string]int64, len(answer))
	for _, l := range answer {
		held[l.Name] = l.Term
	}
	var lost []*tenancy
	for _, t := range tenancies {
		if held[t.lease.Name] == t.lease.Term {
			t.held.confirm(asked, g.window())
		} else {
			t.held.doubt()
			lost = append(lost, t)
		}
	}
	g.lose(ctx, lost)
	return nil
}

// renewable are the leases that are held, that of the member first.
func (g *Group) renewable() (tenancies []*tenancy, leases []observer.Lease) {
	g.mu.Lock()
	defer g.mu.Unlock()
	add := func(t *tenancy) {
		tenancies, leases = append(tenancies, t), append(leases, t.lease)
	}
	if g.member != nil {
		add(g.member)
	}
	for _, t := range g.tenancies {
		if t.held.Err() == nil {
			add(t)
		}
	}
	return tenancies, leases
}

// lose ends what was lost, and says to whom.
func (g *Group) lose(ctx context.Context, lost []*tenancy) {
	if len(lost) == 0 {
		return
	}
	present := map[string]observer.Lease{}
	bounded, cancel := g.bounded(ctx)
	defer cancel()
	all, unknown := g.cfg.Store.Leases(bounded, g.cfg.Prefix)
	for _, l := range all {
		present[l.Name] = l
	}
	for _, t := range lost {
		why := t.held.lostTo(present[t.lease.Name], g.window(), unknown)
		if !t.held.end(why) {
			continue // it was given back meanwhile
		}
		g.mu.Lock()
		if t == g.member {
			g.member = nil
		}
		t.leave(why)
		g.mu.Unlock()
		if t.name != "" {
			g.cfg.Logger.Warn("lease lost", "lease", t.lease.Name, "term", t.lease.Term, "error", why)
		}
	}
}
