package postgres

import (
	"maps"
	"slices"
	"strings"
)

// hole is a range of keys below the highest one seen that no snapshot has shown
// a row for. Its ends belong to it.
type hole struct {
	lo, hi int64
	// owners are those who may still write a row there.
	owners *owners
}

// owners are the transactions that may own the keys of some holes, all of them
// found by the same poll. Whoever drew a key from the sequence keeps a lock on
// it until the transaction ends, so an owner is among the holders of that lock
// when they are listed after the snapshot that showed the hole, or its row is
// visible in the next snapshot.
type owners struct {
	// listed is false until the holders of the lock were listed once.
	listed bool
	// undrawn: the sequence has not reached these keys, so that their owners
	// are not born. They are not listed before it has.
	undrawn bool
	// holders are virtual transaction ids, as pg_locks has them.
	holders map[string]struct{}
}

// gone reports whether nobody can write a row any more that a snapshot taken
// from now on would not show.
func (o *owners) gone() bool { return o.listed && !o.undrawn && len(o.holders) == 0 }

// list notes who holds the lock now. before is the listing made by the poll
// before, which had the same holes unless o is new.
func (o *owners) list(now, before map[string]struct{}) {
	switch {
	case o.undrawn:
		return
	case !o.listed:
		o.listed, o.holders = true, maps.Clone(now)
		return
	}
	for holder := range o.holders {
		if _, there := now[holder]; !there {
			delete(o.holders, holder)
		}
	}
	// PREPARE TRANSACTION hands the lock over to a holder of another name, which
	// may be the successor of any that left.
	for holder := range now {
		if _, there := before[holder]; !there && prepared(holder) {
			o.holders[holder] = struct{}{}
		}
	}
}

// prepared reports whether a virtual transaction id is not of a session: it
// belongs to a prepared transaction, or to one that is just ending.
func prepared(holder string) bool {
	return strings.HasPrefix(holder, "-1/") || strings.HasSuffix(holder, "/0")
}

// gaps is what is known of the log up to the highest key seen.
type gaps struct {
	// high is the highest key that was seen: each key at or below it was given
	// out, lies in a hole, or is dead.
	high int64
	// holes are sorted and apart from each other, all below high.
	holes []hole
}

// see takes the key of a row that a snapshot showed. Keys come in ascending
// order within one poll; fresh are the owners of the holes the poll finds. It is
// false when the row was seen before.
func (g *gaps) see(pk int64, fresh *owners) bool {
	if pk > g.high {
		if pk > g.high+1 {
			g.holes = append(g.holes, hole{g.high + 1, pk - 1, fresh})
		}
		g.high = pk
		return true
	}
	i, found := g.find(pk)
	if !found {
		return false
	}
	h := g.holes[i]
	var rest []hole
	if h.lo < pk {
		rest = append(rest, hole{h.lo, pk - 1, h.owners})
	}
	if pk < h.hi {
		rest = append(rest, hole{pk + 1, h.hi, h.owners})
	}
	g.holes = slices.Replace(g.holes, i, i+1, rest...)
	return true
}

func (g *gaps) find(pk int64) (int, bool) {
	return slices.BinarySearchFunc(g.holes, pk, func(h hole, pk int64) int {
		switch {
		case h.hi < pk:
			return -1
		case h.lo > pk:
			return 1
		}
		return 0
	})
}

// bury drops the holes whose owners are gone. It is called after the rows of a
// snapshot were seen that is newer than the listing that found the owners gone;
// upTo is the highest key that the snapshot was asked for.
func (g *gaps) bury(dead map[*owners]struct{}, upTo int64) {
	g.holes = slices.DeleteFunc(g.holes, func(h hole) bool {
		_, is := dead[h.owners]
		return is && h.hi <= upTo
	})
}

// gone are the owners that can write nothing new any more.
func (g *gaps) gone() map[*owners]struct{} {
	dead := map[*owners]struct{}{}
	for _, h := range g.holes {
		if h.owners.gone() {
			dead[h.owners] = struct{}{}
		}
	}
	return dead
}

// list notes the holders of the sequence's lock for every hole.
func (g *gaps) list(now, before map[string]struct{}) {
	done := map[*owners]struct{}{}
	for _, h := range g.holes {
		if _, is := done[h.owners]; !is {
			done[h.owners] = struct{}{}
			h.owners.list(now, before)
		}
	}
}

// reached is the least key that the sequence has given, as far as is known.
func (g *gaps) reached() int64 {
	for _, h := range g.holes {
		if h.owners.undrawn {
			return h.lo - 1
		}
	}
	return g.high
}

// drawn takes the last key that the sequence has given. Holes it has reached
// have their owners from now on.
func (g *gaps) drawn(last int64) {
	fresh := &owners{}
	for i := 0; i < len(g.holes); i++ {
		h := g.holes[i]
		switch {
		case !h.owners.undrawn || h.lo > last:
		case h.hi <= last:
			g.holes[i].owners = fresh
		default:
			g.holes = slices.Replace(g.holes, i, i+1, hole{h.lo, last, fresh}, hole{last + 1, h.hi, h.owners})
			i++
		}
	}
}

// floor is the key at and below which nothing can appear any more.
func (g *gaps) floor() int64 {
	if len(g.holes) == 0 {
		return g.high
	}
	return g.holes[0].lo - 1
}

// ranges are the ends of the holes, as the queries take them.
func (g *gaps) ranges() (los, his []int64) {
	los, his = make([]int64, len(g.holes)), make([]int64, len(g.holes))
	for i, h := range g.holes {
		los[i], his[i] = h.lo, h.hi
	}
	return los, his
}

// cut forgets what lies above a key.
func (g *gaps) cut(high int64) {
	g.high = high
	g.holes = slices.DeleteFunc(g.holes, func(h hole) bool { return h.lo > high })
	if n := len(g.holes); n > 0 && g.holes[n-1].hi > high {
		g.holes[n-1].hi = high
	}
}
