package postgres

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// PostgreSQL keeps the index entries of rows that changed for as long as somebody
// holds an old snapshot, and who looks for the first row of a range passes over
// all of them again and again. So a process remembers how far it has taken
// everything, and looks on from that floor. What others store below it, late or
// long overdue, and what they died holding, is found by looking from the very
// beginning now and then; that takes a small part of the time, however long it
// takes.
const (
	// smallBand is how many rows are taken before a floor is relied on: few dead
	// entries cost nothing.
	smallBand = 1000
	// window is how many of the rows taken last the floor stays behind, or margins
	// in time: others may commit out of order.
	window      = 1000
	floorMargin = 10 * time.Second
	// The time between looks from the beginning is a multiple of what the last one
	// took, within bounds.
	fullLookShare = 50
	fullLookFirst = time.Second
	fullLookLast  = time.Minute
)

// floor is how far a range was taken.
type floor struct {
	at    pgtype.Timestamptz // everything before it is taken
	taken int                // rows, in all
	busy  bool               // whether the last look found something, or something came since
	marks [2]mark
	next  time.Time // when to look from the beginning again
}

// mark is how far a range was taken when so many rows of it were.
type mark struct {
	at    pgtype.Timestamptz
	taken int
}

func newFloor() floor {
	return floor{at: dueTime(time.Time{}), busy: true, marks: [2]mark{{at: dueTime(time.Time{})}, {at: dueTime(time.Time{})}}}
}

// start is from where to look now, and whether that is the very beginning.
func (f *floor) start(now time.Time) (from pgtype.Timestamptz, full bool) {
	if f.taken < smallBand || !now.Before(f.next) {
		return dueTime(time.Time{}), true
	}
	return f.at, false
}

// took takes note of a look by the clock of the database that took n rows, all
// that there are before a time.
func (f *floor) took(n int, until pgtype.Timestamptz, clock time.Time) {
	f.taken += n
	if f.taken-f.marks[1].taken >= window {
		f.marks[0], f.marks[1] = f.marks[1], mark{until, f.taken}
	}
	limit := later(dueTime(clock.Add(-floorMargin)), f.marks[0].at)
	f.at = later(f.at, earlier(until, limit))
}

// looked takes note of what a look from the beginning cost.
func (f *floor) looked(now time.Time, cost time.Duration) {
	f.next = now.Add(min(max(fullLookShare*cost, fullLookFirst), fullLookLast))
}

func (f *floor) lower(due pgtype.Timestamptz) {
	f.at = earlier(f.at, due)
	for i := range f.marks {
		f.marks[i].at = earlier(f.marks[i].at, due)
	}
}

func earlier(a, b pgtype.Timestamptz) pgtype.Timestamptz {
	if before(b, a) {
		return b
	}
	return a
}

func later(a, b pgtype.Timestamptz) pgtype.Timestamptz {
	if before(a, b) {
		return b
	}
	return a
}

func before(a, b pgtype.Timestamptz) bool {
	if a.InfinityModifier != b.InfinityModifier {
		return a.InfinityModifier < b.InfinityModifier
	}
	return a.InfinityModifier == pgtype.Finite && a.Time.Before(b.Time)
}
