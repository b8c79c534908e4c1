package lease

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// view is what a member found in the store.
type view struct {
	order   []string                  // what is shared, each once
	names   map[string]observer.Lease // the lease of each, possibly the zero one
	others  []string                  // the other members
	members int                       // with this one
	share   int                       // how many names are for one member
	at      time.Time
}

// look reads the leases of the group.
func (g *Group) look(ctx context.Context) (view, error) {
	v := view{names: map[string]observer.Lease{}}
	for _, name := range g.cfg.Names() {
		if _, twice := v.names[name]; !twice {
			v.order = append(v.order, name)
			v.names[name] = observer.Lease{}
		}
	}
	ctx, cancel := g.bounded(ctx)
	defer cancel()
	all, err := g.cfg.Store.Leases(ctx, g.cfg.Prefix)
	if err != nil {
		return v, err
	}
	for _, l := range all {
		name := strings.TrimPrefix(l.Name, g.cfg.Prefix)
		if _, shared := v.names[name]; shared {
			v.names[name] = l
		} else if strings.HasPrefix(name, memberPrefix) && l.Running() && l.Holder != g.holder {
			v.others = append(v.others, l.Holder)
		}
	}
	// This member counts itself even while others are to do what it cannot.
	v.members = len(v.others) + 1
	v.share = (len(v.order) + v.members - 1) / v.members
	v.at = time.Now()
	return v, nil
}

// The reasons for which a name is given back.
var (
	errSurplus  = errors.New("other members are to have it")
	errUnwanted = errors.New("it is not shared any more")
)

// giveBack has the runs of names end that are above the share, or not shared any
// more. Which of them are above it is drawn: one that others cannot run is then
// another one the next time.
func (g *Group) giveBack(v view) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var kept []*tenancy
	for name, t := range g.tenancies {
		if _, wanted := v.names[name]; !wanted {
			t.leave(errUnwanted)
		}
		if !t.leaving && !g.kept[name] {
			kept = append(kept, t)
		}
	}
	shuffle(kept)
	for _, t := range kept[:max(0, len(kept)-v.share)] {
		t.leave(errSurplus)
	}
}

// take acquires free names up to the share, in an order that is drawn, and ends
// leases of this holder that it does not know of: their answers were lost.
func (g *Group) take(ctx context.Context, v view, run RunFunc) {
	free, room := g.free(v)
	shuffle(free)
	for _, name := range free {
		if ctx.Err() != nil {
			break
		}
		if room == 0 && !g.keep(name) {
			continue
		}
		taken, err := g.acquire(ctx, name, run)
		if err != nil {
			if ctx.Err() == nil {
				g.cfg.Logger.Warn("lease cannot be had; trying again", "lease", g.cfg.Prefix+name, "error", err)
			}
			break
		}
		if taken && room > 0 {
			room--
		}
	}
	for name, l := range v.names {
		if l.Holder == g.holder && ctx.Err() == nil && g.tenancy(name) == nil {
			g.release(ctx, l)
		}
	}
}

// noteOrphans notes since when names are free, and has the shares drawn anew when
// the members change. The caller holds mu.
func (g *Group) noteOrphans(v view) {
	if !slices.Equal(slices.Sorted(slices.Values(v.others)), slices.Sorted(slices.Values(g.seen.others))) {
		clear(g.kept)
		clear(g.orphans)
	}
	for name, l := range v.names {
		switch since, free := g.orphans[name]; {
		case l.Running() || g.tenancies[name] != nil:
			delete(g.orphans, name)
		case !free:
			g.orphans[name] = v.at
		case v.at.Before(since):
			g.orphans[name] = v.at
		}
	}
}

// keep reports whether a free name is to be taken although it is above the share:
// nobody else took it for twice the time of a lease, because not all members list
// it, or because they cannot run it.
func (g *Group) keep(name string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	since, free := g.orphans[name]
	if !free || time.Since(since) < 2*g.cfg.TTL {
		return false
	}
	if !g.kept[name] {
		g.kept[name] = true
		g.cfg.Logger.Info("nobody else takes a name; taken beside the share of this process", "lease", g.cfg.Prefix+name)
	}
	return true
}

// free lists the names that nobody has, and tells how many of them this member may
// take.
func (g *Group) free(v view) (free []string, room int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	room = v.share
	for name, t := range g.tenancies {
		if !t.leaving && !g.kept[name] {
			room--
		}
	}
	now := time.Now()
	for name, l := range v.names {
		mine := l.Holder == "" || l.Holder == g.holder
		// A lease that ran out while the store was away may still be renewed.
		over := !l.Running() && !now.Before(g.settled)
		if g.tenancies[name] == nil && (mine || over) && !now.Before(g.failed[name].until) {
			free = append(free, name)
		}
	}
	return free, max(0, room)
}

// acquire begins to run a name, unless somebody else was faster.
func (g *Group) acquire(ctx context.Context, name string, run RunFunc) (taken bool, err error) {
	asked := time.Now()
	bounded, cancel := g.bounded(ctx)
	defer cancel()
	l, err := g.cfg.Store.AcquireLease(bounded, g.cfg.Prefix+name, g.holder, g.cfg.TTL)
	if errors.Is(err, observer.ErrBusy) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	t := newTenancy(ctx, name, l, newHeld(l, asked, g.window(), g.ask))
	g.mu.Lock()
	g.tenancies[name] = t
	g.mu.Unlock()
	g.cfg.Logger.Info("lease taken", "lease", l.Name, "holder", g.holder, "term", l.Term)
	g.tasks.Go(func() { g.tenant(t, run) })
	return true, nil
}

// tenancy is the one of a name, or nil.
func (g *Group) tenancy(name string) *tenancy {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tenancies[name]
}

func shuffle[T any](all []T) {
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] }) //nolint:gosec // spreading load needs no secrecy
}
