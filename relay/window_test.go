package relay

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/fraiseql/observer"
)

// model is a slow, obvious relay over a log: it remembers every entry's state and
// computes everything by scanning. Ids are few, so that many entries share one; ""
// stands for a message that only says how far the log was passed. Entries become
// visible in any order, and a stream gives what is visible in the order of the log,
// as one of PostgreSQL does. A position is the set of what was given.
type model struct {
	t      *rapid.T
	window *window
	saved  observer.Checkpoint
	log    []logged
	given  set // by the open stream, and what its position covered
	floor  set // what the position covers
	// back: the stream began before the position, which may go there.
	back bool
	// running are the entries in flight, by id.
	running map[string][]*entry
	// handled counts, by id, the entries that finished in this life, or in an earlier
	// one and were saved before it was killed.
	handled map[string]int
	// told is handled, as of the last save.
	told  map[string]int
	taken int // places taken and not given back
	// excess is how many entries of an id may be handled although they were before,
	// because the source went back.
	excess map[string]int
}

type logged struct {
	id      string
	visible bool
}

type set map[int]bool

func (s set) position() observer.Position {
	text := []byte(strings.Repeat("-", 1+slices.Max(append(slices.Collect(maps.Keys(s)), 0))))
	for n := range s {
		text[n] = '+'
	}
	return observer.Position(text)
}

func setOf(p observer.Position) set {
	s := set{}
	for n, c := range p {
		if c == '+' {
			s[n] = true
		}
	}
	return s
}

// count is how many entries of s have an id.
func (m *model) count(s set, id string) (n int) {
	for i := range s {
		if m.log[i].id == id {
			n++
		}
	}
	return n
}

func (m *model) write() {
	id := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(m.t, "id")
	m.log = append(m.log, logged{id, rapid.IntRange(0, 3).Draw(m.t, "late") > 0})
}

func (m *model) appear() {
	for i := range m.log {
		if !m.log[i].visible {
			m.log[i].visible = rapid.Bool().Draw(m.t, "appears")
		}
	}
}

func (m *model) read() bool {
	for n, l := range m.log {
		if l.visible && !m.given[n] {
			m.give(n, l.id)
			return true
		}
	}
	return false
}

func (m *model) give(n int, id string) {
	m.given[n] = true
	m.taken++
	e, fresh, settled := m.window.add(id, m.given.position())
	m.taken -= settled
	if id == "" {
		m.taken -= m.window.finish(e) // there is nothing to handle
		return
	}
	if fresh {
		m.running[id] = append(m.running[id], e)
	}
	known, due := len(m.running[id])+m.handled[id], m.count(m.given, id)
	if known < due {
		m.t.Fatalf("entry %d was suppressed: %d of %d entries %q are handled or in flight", n, known, due, id)
	}
	if fresh && known > due+m.excess[id] {
		m.t.Fatalf("entry %d was handed out again: %d entries %q are handled or in flight, and %d were given", n, known, id, due)
	}
}

func (m *model) finish() {
	ids := slices.Sorted(maps.Keys(m.running))
	if len(ids) == 0 {
		m.t.Skip("nothing in flight")
	}
	id := rapid.SampledFrom(ids).Draw(m.t, "finish")
	i := rapid.IntRange(0, len(m.running[id])-1).Draw(m.t, "which")
	m.taken -= m.window.finish(m.running[id][i])
	if m.running[id] = slices.Delete(m.running[id], i, i+1); len(m.running[id]) == 0 {
		delete(m.running, id)
	}
	m.handled[id]++
}

func (m *model) reopen() {
	from, settled := m.window.reopen()
	m.taken -= settled
	m.given, m.back = setOf(from), false
}

// rewind has the source go back to where it finds its place in another history.
func (m *model) rewind() {
	m.reopen()
	m.given, m.back = set{}, true
	for id, n := range m.handled {
		m.excess[id] += n + len(m.running[id])
	}
}

func (m *model) save() { m.saved, m.told = m.window.checkpoint(), maps.Clone(m.handled) }

// kill starts a new life from the saved checkpoint.
func (m *model) kill() {
	m.handled, m.running, m.taken = maps.Clone(m.told), map[string][]*entry{}, 0
	m.floor = set{} // what is not saved is read again
	m.window = newWindow(m.saved)
	m.reopen()
}

// check is Invariant 1, with what follows from it.
func (m *model) check() {
	cp := m.window.checkpoint()
	passed := setOf(cp.Position)
	if m.back && !maps.Equal(m.floor, passed) {
		m.floor, m.back = passed, false
	}
	for n := range m.floor {
		if !passed[n] {
			m.t.Fatalf("the position went back from %s to %s", m.floor.position(), passed.position())
		}
	}
	m.floor = passed
	for _, id := range []string{"a", "b", "c", "d", "e"} {
		done := 0
		for _, other := range cp.Done {
			if other == id {
				done++
			}
		}
		if n := m.count(passed, id); n > m.handled[id] {
			m.t.Fatalf("the checkpoint %s passed %d entries %q, of which %d are handled", cp.Position, n, id, m.handled[id])
		}
		if n := m.count(passed, id) + done; n+m.excess[id] < m.handled[id] || n > m.handled[id] {
			m.t.Fatalf("the checkpoint %s %q says that %d entries %q are handled, and %d are", cp.Position, cp.Done, n, id, m.handled[id])
		}
	}
	if slices.Contains(cp.Done, "") {
		m.t.Fatal("the checkpoint remembers what has no id")
	}
	if _, size := m.window.oldest(); size != m.taken {
		m.t.Fatalf("%d places taken for %d entries in the window", m.taken, size)
	}
	m.checkRead()
}

// checkRead: nothing in flight is behind what is said to be read.
func (m *model) checkRead() {
	at, known := m.window.read()
	if !known {
		return
	}
	read := setOf(at)
	for id, es := range m.running {
		if n := m.count(read, id); n < len(es) {
			m.t.Fatalf("%d entries %q are in flight, and %d were read up to %s", len(es), id, n, read.position())
		}
	}
}

// settle reads and finishes everything: nothing is left then.
func (m *model) settle() {
	for m.read() {
		m.check()
	}
	for len(m.running) > 0 {
		m.finish()
		m.check()
	}
	all := set{}
	for n, l := range m.log {
		if l.visible {
			all[n] = true
		}
	}
	cp := m.window.checkpoint()
	if remembered := len(cp.Done) > 0 && len(m.excess) == 0; remembered || m.taken != 0 || !maps.Equal(setOf(cp.Position), all) {
		m.t.Fatalf("everything is handled, %d places are taken, and the checkpoint is %s %q of %s", m.taken, cp.Position, cp.Done, all.position())
	}
}

func TestInvariant1WatermarkAgainstASlowModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := &model{
			t: t, window: newWindow(observer.Checkpoint{}), given: set{}, floor: set{},
			running: map[string][]*entry{}, handled: map[string]int{}, told: map[string]int{}, excess: map[string]int{},
		}
		does := func(f func()) func(*rapid.T) { return func(t *rapid.T) { m.t = t; f() } }
		t.Repeat(map[string]func(*rapid.T){
			"write":  does(m.write),
			"appear": does(m.appear),
			"read":   does(func() { m.read() }),
			"read2":  does(func() { m.read(); m.read() }),
			"finish": does(m.finish),
			"reopen": does(m.reopen),
			"rewind": does(m.rewind),
			"save":   does(m.save),
			"kill":   does(m.kill),
			"":       does(m.check),
		})
		m.t = t
		m.settle()
	})
}

// What a source gives no more, because its history was replaced, is forgotten in the
// end: it takes no places, and no room in the checkpoint. What is in flight is not.
func TestWhatIsNotGivenAgainIsForgotten(t *testing.T) {
	t.Parallel()
	w := newWindow(observer.Checkpoint{Done: []string{"gone"}})
	w.forget = 3
	running, _, _ := w.add("running", "1")
	done, _, _ := w.add("done", "2")
	if n := w.finish(done); n != 0 {
		t.Fatalf("%d places are free, want none", n)
	}
	if from, settled := w.reopen(); from != "" || settled != 1 {
		t.Fatalf("reading again from %q with %d places free, want the beginning and that of what is handled", from, settled)
	}
	for i, want := range []int{2, 2, 2, 2, 2, 0} {
		e, fresh, _ := w.add("new", "3")
		if settled := w.finish(e); !fresh || settled != 1 {
			t.Fatalf("message %d: fresh is %v, %d places are free", i, fresh, settled)
		}
		if cp := w.checkpoint(); len(cp.Done) != want {
			t.Errorf("after %d messages the checkpoint remembers %q, want %d", i+1, cp.Done, want)
		}
	}
	if e, fresh, settled := w.add("running", "4"); e != running || fresh || settled != 1 {
		t.Error("what is in flight was not told when it came again")
	}
	if _, size := w.oldest(); size != 1 {
		t.Errorf("%d places are taken, want one", size)
	}
}

// It is forgotten also when the stream fails all the time; and what is given again is
// told however often that happens.
func TestWhatIsNotGivenAgainIsForgottenAlthoughStreamsFail(t *testing.T) {
	t.Parallel()
	w := newWindow(observer.Checkpoint{Done: []string{"gone"}})
	w.forget = 10
	w.add("running", "0")
	done, _, _ := w.add("done", "2")
	w.finish(done)
	for i := range 100 {
		w.reopen()
		for range 7 { // which became visible in front
			e, _, _ := w.add("new", "1")
			w.finish(e)
		}
		if e, fresh, _ := w.add("running", "1"); fresh || e == nil {
			t.Fatalf("stream %d: what is in flight was not told", i)
		}
		if e, fresh, _ := w.add("done", "2"); fresh || e != done {
			t.Fatalf("stream %d: what is handled is handled again", i)
		}
	}
	if got := w.checkpoint().Done; !slices.Equal(got, []string{"done"}) {
		t.Errorf("after 700 messages that the watermark passed the checkpoint remembers %v", got)
	}
}

// While a stream has not given again what is in flight, what was read before counts
// as read.
func TestReadDoesNotFallBehindWhatIsInFlight(t *testing.T) {
	t.Parallel()
	w := newWindow(observer.Checkpoint{Position: "0"})
	w.add("a", "1")
	w.add("b", "2")
	for range 2 {
		w.reopen()
		w.add("a", "1")
		if read, known := w.read(); read != "2" || !known {
			t.Errorf("read up to %s (known: %v), and b is in flight", read, known)
		}
	}
	w.add("b", "2 by another name")
	if read, known := w.read(); read != "2 by another name" || !known {
		t.Errorf("read up to %s (known: %v), want where b is", read, known)
	}
}

// What became visible in front of what was read before is covered by no position
// until all of that is given again, or handled; a stream that fails changes nothing
// about that. Here a position lists what it covers.
func TestReadIsUnknownWhenNoPositionCoversWhatIsInFlight(t *testing.T) {
	t.Parallel()
	w := newWindow(observer.Checkpoint{})
	reads := func(when string, want observer.Position, wantKnown bool) {
		t.Helper()
		if read, known := w.read(); known != wantKnown || known && read != want {
			t.Errorf("%s: read %q (known: %v), want %q (%v)", when, read, known, want, wantKnown)
		}
	}
	a, _, _ := w.add("a", "a")
	b, _, _ := w.add("b", "ab")
	w.reopen()
	reads("opened again", "ab", true)
	w.add("x", "x")
	reads("x is in front of a and b", "", false)
	w.reopen()
	reads("opened once more", "", false)
	w.add("x", "x")
	w.add("a", "xa")
	reads("b is away", "", false)
	w.finish(b)
	reads("b is handled", "xa", true) // which it does not cover any more
	w.finish(a)
	w.reopen()
	reads("x alone is in flight", "xa", true)
}
