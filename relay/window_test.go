package relay

import (
	"slices"
	"strconv"
	"testing"

	"pgregory.net/rapid"

	"github.com/fraiseql/observer"
)

// model is a slow, obvious relay over a log of numbered entries: it remembers
// every entry's state and computes everything by scanning.
type model struct {
	t       *rapid.T
	window  *window
	saved   observer.Checkpoint
	read    int            // entries of the log read by the open stream
	written int            // entries in the log
	pending map[int]uint64 // handed out and not finished, with their sequence
	// handled are the entries finished in this life, or in an earlier one and
	// saved before it was killed.
	handled  map[int]bool
	furthest int // the furthest entry read in this life
	taken    int // places taken and not given back
}

func id(n int) string { return "event-" + strconv.Itoa(n) }

func at(n int) observer.Position { return observer.Position(strconv.Itoa(n)) }

func index(p observer.Position) int {
	if p == "" {
		return 0
	}
	n, _ := strconv.Atoi(string(p))
	return n
}

func (m *model) readNext() {
	if m.read == m.written {
		m.written++
	}
	m.read++
	n := m.read
	m.furthest = max(m.furthest, n)
	m.taken++
	seq, fresh, settled := m.window.add(id(n), at(n))
	m.taken -= settled
	if !fresh {
		if !m.handled[n] && m.pending[n] == 0 {
			m.t.Fatalf("entry %d was suppressed and neither handled nor in flight", n)
		}
		return
	}
	if _, inFlight := m.pending[n]; inFlight || m.handled[n] {
		m.t.Fatalf("entry %d was handed out again", n)
	}
	m.pending[n] = seq + 1 // zero means absent
}

func (m *model) finishOne() {
	if len(m.pending) == 0 {
		m.t.Skip("nothing in flight")
	}
	keys := make([]int, 0, len(m.pending))
	for n := range m.pending {
		keys = append(keys, n)
	}
	slices.Sort(keys)
	n := rapid.SampledFrom(keys).Draw(m.t, "finish")
	m.taken -= m.window.finish(m.pending[n] - 1)
	delete(m.pending, n)
	m.handled[n] = true
}

func (m *model) reopen() { m.read = index(m.window.reopen()) }

func (m *model) save() { m.saved = m.window.checkpoint() }

// kill starts a new life from the saved checkpoint.
func (m *model) kill() {
	m.handled = map[int]bool{}
	for n := range index(m.saved.Position) {
		m.handled[n+1] = true
	}
	for _, done := range m.saved.Done {
		n, _ := strconv.Atoi(done[len("event-"):])
		m.handled[n] = true
	}
	m.pending, m.taken = map[int]uint64{}, 0
	m.furthest = index(m.saved.Position)
	m.window = newWindow(m.saved)
	m.reopen()
}

// check is Invariant 1, with what follows from it.
func (m *model) check() {
	cp := m.window.checkpoint()
	for n := 1; n <= index(cp.Position); n++ {
		if !m.handled[n] {
			m.t.Fatalf("the checkpoint passed entry %d, which is not handled", n)
		}
	}
	for _, done := range cp.Done {
		n, _ := strconv.Atoi(done[len("event-"):])
		if !m.handled[n] || n <= index(cp.Position) {
			m.t.Fatalf("the checkpoint at %s holds entry %d (handled: %v)", cp.Position, n, m.handled[n])
		}
	}
	for n := range m.handled {
		if n > index(cp.Position) && !slices.Contains(cp.Done, id(n)) {
			m.t.Fatalf("the checkpoint at %s forgot that entry %d is handled", cp.Position, n)
		}
	}
	if next := index(cp.Position) + 1; next <= m.furthest && m.handled[next] {
		m.t.Fatalf("the checkpoint stays before entry %d, which is handled", next)
	}
	if _, size := m.window.oldest(); size != m.taken {
		m.t.Fatalf("%d places taken for %d entries in the window", m.taken, size)
	}
}

func TestInvariant1WatermarkAgainstASlowModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t: t, window: newWindow(observer.Checkpoint{}), pending: map[int]uint64{},
			handled: map[int]bool{},
		}
		t.Repeat(map[string]func(*rapid.T){
			"read":   func(t *rapid.T) { m.t = t; m.readNext() },
			"finish": func(t *rapid.T) { m.t = t; m.finishOne() },
			"reopen": func(t *rapid.T) { m.t = t; m.reopen() },
			"save":   func(t *rapid.T) { m.t = t; m.save() },
			"kill":   func(t *rapid.T) { m.t = t; m.kill() },
			"":       func(t *rapid.T) { m.t = t; m.check() },
		})
	})
}
