package relay

import (
	"slices"
	"sync"

	"github.com/fraiseql/observer"
)

// window follows the messages that were read and are not yet all settled: it
// knows up to which one everything is handled (the watermark) and what is
// handled above it.
//
// A reopened stream begins at the watermark and gives again what is above it, not
// always in the same order: an entry may have become visible in front of others. A
// position says what one stream has given, so the window has entries in the order
// of the present one, and the watermark moves with that alone. What an earlier one
// gave waits to be given again, and is told by its id. An id may stand in the log
// more than once, so that many entries wait under it.
type window struct {
	mu sync.Mutex
	// entries are what the stream gave and the watermark has not passed.
	entries []*entry
	// position resumes after the last entry that the watermark has passed.
	position observer.Position
	// again are the entries that the stream is expected to give again, by id, in the
	// order in which they were read.
	again map[string][]*entry
	// away is how many entries of earlier streams are not handled.
	away int
	// newest is the position of the newest message that the stream gave, and before
	// that of the newest one of the last stream that nothing was away from. uncovered:
	// since then something was given for the first time, which before may not cover.
	newest, before observer.Position
	uncovered      bool
	// passed counts what the watermark has passed since something was forgotten, over
	// all streams. What is handled and was not given again while it passed forget
	// entries, is not expected any more.
	passed, forget int
}

// entry is a message that was read. One in the window has a place until the
// watermark passes it, one of an earlier stream until it is handled.
type entry struct {
	id       string
	position observer.Position
	done     bool
	// away: the stream has not given it. old: it had not either, when something was
	// forgotten the last time.
	away, old bool
}

// forgetAfter is more than becomes visible in front of what was read before, but
// for the rarest case, in which something is handled again. What is never given
// again, because the history of a source was replaced, must not stay in the
// checkpoint for ever.
const forgetAfter = 100_000

func newWindow(cp observer.Checkpoint) *window {
	w := &window{position: cp.Position, newest: cp.Position, again: make(map[string][]*entry, len(cp.Done)), forget: forgetAfter}
	for _, id := range cp.Done {
		if id != "" {
			w.again[id] = append(w.again[id], &entry{id: id, done: true, away: true})
		}
	}
	return w
}

// reopen returns where to read from and expects what is in the window to be given
// again. settled is how many places are free for that.
func (w *window) reopen() (from observer.Position, settled int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away == 0 {
		w.before, w.uncovered = w.newest, false
	}
	w.newest = w.position
	older := w.again
	w.again = make(map[string][]*entry, len(older)+len(w.entries))
	for _, e := range w.entries {
		e.away = true
		if e.done {
			settled++
		} else {
			w.away++
		}
		if e.id != "" {
			w.again[e.id] = append(w.again[e.id], e)
		}
	}
	for id, es := range older {
		w.again[id] = append(w.again[id], es...)
	}
	w.entries = nil
	return w.position, settled
}

// add takes a message that was read. fresh is false when it must not be
// handled; settled is how many places are free again.
func (w *window) add(id string, at observer.Position) (e *entry, fresh bool, settled int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e = w.expected(id); e == nil {
		e, fresh = &entry{id: id}, true
		w.uncovered = w.uncovered || w.away > 0
	}
	e.position, e.away, e.old, w.newest = at, false, false, at
	w.entries = append(w.entries, e)
	switch {
	case e.done:
		settled = w.advance()
	case !fresh:
		w.away--
		settled = 1 // it has a place already
	}
	return e, fresh, settled
}

// expected takes out the oldest entry that waits to be given again under an id.
func (w *window) expected(id string) *entry {
	waiting := w.again[id]
	if len(waiting) == 0 {
		return nil
	}
	if len(waiting) == 1 {
		delete(w.again, id)
	} else {
		w.again[id] = waiting[1:]
	}
	return waiting[0]
}

// count notes that the watermark has passed n entries. What only just began to wait
// to be given again, as the stream was reopened, has until the next time.
func (w *window) count(n int) {
	if w.passed += n; w.passed < w.forget {
		return
	}
	w.passed = 0
	for id, waiting := range w.again {
		if waiting = slices.DeleteFunc(waiting, func(e *entry) bool { return e.done && e.old }); len(waiting) == 0 {
			delete(w.again, id)
			continue
		}
		for _, e := range waiting {
			e.old = true
		}
		w.again[id] = waiting
	}
}

// finish marks a message as handled and returns how many places are free again.
func (w *window) finish(e *entry) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	e.done = true
	if e.away {
		w.away--
		return 1
	}
	return w.advance()
}

// Invariant 1: the position moves over an entry only when it and everything
// before it is handled.
func (w *window) advance() int {
	n := 0
	for n < len(w.entries) && w.entries[n].done {
		n++
	}
	if n > 0 {
		w.position = w.entries[n-1].position
		clear(w.entries[:n]) // let go of them
		w.entries = w.entries[n:]
		w.count(n)
	}
	return n
}

// checkpoint is what to save now.
func (w *window) checkpoint() observer.Checkpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	cp := observer.Checkpoint{Position: w.position}
	remember := func(es []*entry) {
		for _, e := range es {
			if e.done && e.id != "" {
				cp.Done = append(cp.Done, e.id)
			}
		}
	}
	for _, waiting := range w.again {
		remember(waiting)
	}
	remember(w.entries)
	return cp
}

// handled is the position up to which everything is.
func (w *window) handled() observer.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// read is a position that covers everything in flight: that of the newest message
// that was read. While a reopened stream has not given everything again that is in
// flight, that is the one of the stream before it; and none is known while something
// was given for the first time as well, which may have become visible in front. It
// may go back: when the last of what was away is handled, the position is that of
// what the stream has given so far.
func (w *window) read() (at observer.Position, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.away > 0 {
		return w.before, !w.uncovered
	}
	return w.newest, true
}

// oldest is the id of the oldest unhandled message, or of one that the stream has
// not given again, and how many have a place.
func (w *window) oldest() (id string, size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	size = len(w.entries) + w.away
	if len(w.entries) > 0 {
		return w.entries[0].id, size
	}
	for _, waiting := range w.again {
		for _, e := range waiting {
			if !e.done {
				return e.id, size
			}
		}
	}
	return "", size
}
