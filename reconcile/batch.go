package reconcile

import (
	"time"

	"github.com/fraiseql/observer"
)

// Progress is how far a stream goes, and a group in it. Last is read before
// Handled, or both at once.
type Progress struct {
	// Life names one life of the stream. It changes when the stream was deleted and
	// made again, or put back to an older state.
	Life string
	// Partitions are the parts of the stream that are read in order, each by itself.
	Partitions []Partition
}

// Partition is one part of a stream. Its messages are numbered in ascending
// order.
type Partition struct {
	// Last is the number of the last message that is in the stream, 0 when there is
	// none.
	Last uint64
	// Handled: every message at or before it that is in the stream is handled, by the
	// stored checkpoint of the group. It is 0 without a checkpoint, and while the
	// checkpoint is about other messages than those in the stream now, which was made
	// again or put back since.
	Handled uint64
}

// batch is events that are verified together.
type batch struct {
	told bool // that publishing again is of no use
	// lacking are those without a receipt, in the order of the log.
	lacking []*observer.Event
	// read is when the events were read from the log, since when this round of
	// waiting for them began.
	read, since time.Time
	// rounds counts how often some of them were published again.
	rounds  int
	barrier *barrier
}

// barrier is where the partitions ended when it was noted.
type barrier struct {
	life  string
	last  []uint64
	noted time.Time
}

func newBatch(events []*observer.Event, now time.Time) *batch {
	return &batch{lacking: events, read: now, since: now}
}

// asks reports whether it is time to look at positions: to note a barrier, or to
// see whether it is passed.
func (b *batch) asks(now time.Time, grace time.Duration) bool {
	if b.barrier != nil {
		return now.Sub(b.barrier.noted) >= grace
	}
	return now.Sub(b.since) >= grace
}

// passed reports whether all that the stream held at the barrier is handled. It
// notes a barrier where there is none, or none that can be passed any more.
func (b *batch) passed(at Progress, now time.Time) bool {
	if b.barrier == nil || !b.barrier.stands(at) {
		b.barrier = newBarrier(at, now)
		return false
	}
	for i, p := range at.Partitions {
		if p.Handled < b.barrier.last[i] {
			return false
		}
	}
	return true
}

func newBarrier(at Progress, now time.Time) *barrier {
	b := &barrier{life: at.Life, last: make([]uint64, len(at.Partitions)), noted: now}
	for i, p := range at.Partitions {
		b.last[i] = p.Last
	}
	return b
}

// stands reports whether the stream still goes as far as the barrier.
func (b *barrier) stands(at Progress) bool {
	if b.life != at.Life || len(b.last) != len(at.Partitions) {
		return false
	}
	for i, p := range at.Partitions {
		if p.Last < b.last[i] {
			return false
		}
	}
	return true
}

// again begins to wait for what was published again.
func (b *batch) again(now time.Time) {
	b.rounds++
	b.anew(now)
}

// anew begins to wait without counting a round: some may be published again.
func (b *batch) anew(now time.Time) { b.since, b.barrier = now, nil }
