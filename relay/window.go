package relay

import (
	"sync"

	"github.com/fraiseql/observer"
)

// window follows the messages that were read and are not yet all settled: it
// knows up to which one everything is handled (the watermark) and what is
// handled above it. Sequence numbers count messages in the order they were
// read.
type window struct {
	mu sync.Mutex
	// entries[0] has sequence number first and is the oldest unhandled one.
	entries []entry
	first   uint64
	// position resumes after the last entry below first.
	position observer.Position
	// skip are messages that a reopened stream will read again and that must
	// not be handled again.
	skip map[string]seen
}

type entry struct {
	id       string
	position observer.Position
	done     bool
}

// seen says where a message that will be read again stands.
type seen int

const (
	// inWindow: it was read before by this process and has its entry.
	inWindow seen = iota + 1
	// inCheckpoint: the checkpoint remembers it as handled.
	inCheckpoint
)

func newWindow(cp observer.Checkpoint) *window {
	w := &window{position: cp.Position, skip: make(map[string]seen, len(cp.Done))}
	for _, id := range cp.Done {
		w.skip[id] = inCheckpoint
	}
	return w
}

// reopen returns where to read from and prepares for reading again what is in
// the window.
func (w *window) reopen() observer.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	for id, s := range w.skip {
		if s == inWindow {
			delete(w.skip, id)
		}
	}
	for i := range w.entries {
		w.skip[w.entries[i].id] = inWindow
	}
	return w.position
}

// add takes a message that was read. fresh is false when it must not be
// handled; settled is how many entries the watermark passed.
func (w *window) add(id string, at observer.Position) (seq uint64, fresh bool, settled int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.skip[id]
	delete(w.skip, id)
	if before == inWindow {
		return 0, false, 1 // it has its entry: give back the place taken for this one
	}
	seq = w.first + uint64(len(w.entries))
	w.entries = append(w.entries, entry{id: id, position: at, done: before == inCheckpoint})
	if before == inCheckpoint {
		return seq, false, w.advance()
	}
	return seq, true, 0
}

// finish marks a message as handled and returns how many entries the watermark
// passed.
func (w *window) finish(seq uint64) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.entries[seq-w.first].done = true
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
		clear(w.entries[:n]) // let go of the strings
		w.entries = w.entries[n:]
		w.first += uint64(n)
	}
	return n
}

// checkpoint is what to save now.
func (w *window) checkpoint() observer.Checkpoint {
	w.mu.Lock()
	defer w.mu.Unlock()
	cp := observer.Checkpoint{Position: w.position}
	for id, s := range w.skip {
		if s == inCheckpoint {
			cp.Done = append(cp.Done, id)
		}
	}
	for i := range w.entries {
		if w.entries[i].done {
			cp.Done = append(cp.Done, w.entries[i].id)
		}
	}
	return cp
}

// handled is the position up to which everything is.
func (w *window) handled() observer.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.position
}

// newest is the position of the message that was read last.
func (w *window) newest() observer.Position {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.entries); n > 0 {
		return w.entries[n-1].position
	}
	return w.position
}

// oldest is the id of the oldest unhandled message, and how many are above it.
func (w *window) oldest() (id string, size int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.entries) == 0 {
		return "", 0
	}
	return w.entries[0].id, len(w.entries)
}
