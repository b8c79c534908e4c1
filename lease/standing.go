package lease

import (
	"slices"
	"time"
)

// Standing says where a group stands, as one member saw it last.
type Standing struct {
	// Holder is this member. Member is false while it counts as none: it has not
	// reached the store yet, or leaves a name to others that it could not run.
	Holder string
	Member bool
	// Members are the holders that count, this one included.
	Members []string
	// Share is how many names are for one member.
	Share int
	// Names are those that are shared.
	Names []NameStanding
	// At is when this was read, by the clock of this process; zero before the first
	// answer. Away: the store has not answered since.
	At   time.Time
	Away bool
}

// NameStanding says who holds a name. Holder is "" when nobody does.
type NameStanding struct {
	Name, Holder string
	Term         int64
	// Since is when its tenancy began, by the clock of the store.
	Since time.Time
	// Mine: this process holds it. Valid: and knows that it does, see [Held.Valid].
	Mine, Valid bool
}

// StandsBy reports whether this member holds none of the names.
func (s Standing) StandsBy() bool {
	return !slices.ContainsFunc(s.Names, func(n NameStanding) bool { return n.Mine })
}

// Standing is where the group stands. It may be called at any time.
func (g *Group) Standing() Standing {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := Standing{
		Holder: g.holder, Member: g.member != nil, Members: slices.Clone(g.seen.others), Share: g.seen.share,
		At: g.seen.at, Away: g.away,
	}
	if s.Member {
		s.Members = append(s.Members, g.holder)
	}
	slices.Sort(s.Members)
	for _, name := range g.seen.order {
		n := NameStanding{Name: name}
		if l := g.seen.names[name]; l.Running() && l.Holder != g.holder {
			n.Holder, n.Term, n.Since = l.Holder, l.Term, l.Since
		}
		if t := g.tenancies[name]; t != nil && t.held.Err() == nil {
			n = NameStanding{Name: name, Holder: g.holder, Term: t.lease.Term, Since: t.lease.Since, Mine: true, Valid: t.held.Valid()}
		}
		s.Names = append(s.Names, n)
	}
	return s
}
