package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	observer "github.com/fraiseql/observer"
)

func fenceTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"fence/a checkpoint under the present term":    eachName(testFenceHeld),
		"fence/a checkpoint under a lease so named":    eachName(testFenceNamed),
		"fence/who takes over loads what was saved":    oneStore(testFenceRace),
		"two stores/who takes over loads what is last": twoStores(testFenceRace),
	}
}

// saveFenced saves a checkpoint under a term, and tells whether it was stored.
func saveFenced(t tester, s observer.StateStore, name string, cp observer.Checkpoint) bool {
	t.Helper()
	err := s.SaveCheckpoint(t.Context(), name, cp)
	if err != nil && !errors.Is(err, observer.ErrFenced) {
		t.Fatalf("save checkpoint: %v", err)
	}
	return err == nil
}

func testFenceHeld(n names) {
	save := func(what string, term int64, position observer.Position, want bool) {
		n.Helper()
		before, beforeErr := n.b.LoadCheckpoint(n.Context(), "shop")
		got := saveFenced(n, n.a, "shop", observer.Checkpoint{Position: position, Done: []string{"x"}, Term: term})
		wantDiff(n, what+": stored", want, got)
		if want {
			wantCheckpoint(n, n.b, "shop", observer.Checkpoint{Position: position, Done: []string{"x"}})
			return
		}
		after, err := n.b.LoadCheckpoint(n.Context(), "shop")
		wantDiff(n, what+": checkpoint", before, after)
		wantDiff(n, what+": there", beforeErr == nil, err == nil)
	}
	save("nobody ever held it", 1, "0", false)
	acquire(n, n.a, "first", "a") // so that there is an earlier term
	l := acquire(n, n.a, "shop", "a")
	other := acquire(n, n.a, "other", "a")
	save("held", l.Term, "1", true)
	save("an earlier term", l.Term-1, "2", false)
	save("the term of another lease", other.Term, "2", false)
	n.h.clock.advance(2 * ttl)
	save("it ran out and nobody took it", l.Term, "2", true)
	taken := acquire(n, n.b, "shop", "b")
	save("taken over", l.Term, "3", false)
	save("by who took it", taken.Term, "3", true)
	save("without a term", 0, "4", true)
	release(n, n.b, taken)
	save("released", taken.Term, "5", false)
	n.h.clock.advance(2 * time.Hour)
	if _, err := n.a.PruneLeases(n.Context(), time.Hour, 10); err != nil {
		n.Fatal(err)
	}
	save("pruned", taken.Term, "6", false)
}

func testFenceNamed(n names) {
	l, own := acquire(n, n.a, "database/shop", "a"), acquire(n, n.a, "shop", "b")
	cp := observer.Checkpoint{Position: "1", Term: l.Term, Lease: l.Name}
	wantDiff(n, "under its lease", true, saveFenced(n, n.a, "shop", cp))
	wantCheckpoint(n, n.b, "shop", observer.Checkpoint{Position: "1"})
	cp.Term = own.Term
	wantDiff(n, "under the term of another", false, saveFenced(n, n.a, "shop", cp))
	cp.Lease = ""
	wantDiff(n, "under the lease of its name", true, saveFenced(n, n.a, "shop", cp))
}

// testFenceRace has holders save as fast as they can, while others take the lease
// from them. What they load then is what was saved last, and stays it.
func testFenceRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	const rounds, savers = 10, 4
	for round := range rounds {
		old := acquire(t, stores[0], "shop", fmt.Sprint("old-", round))
		saved := make([]int, savers) // how many saves of each were acknowledged
		begun := make(chan struct{}, savers)
		var loaded [savers]observer.Checkpoint
		together(savers+1, func(i int) {
			if i < savers {
				saved[i] = saveUntilFenced(t, stores[0], fmt.Sprint("shop-", i), old, begun)
				return
			}
			for range savers {
				<-begun
			}
			h.clock.advance(ttl)
			s := stores[len(stores)-1]
			acquire(t, s, "shop", fmt.Sprint("new-", round))
			for i := range savers {
				cp, err := s.LoadCheckpoint(t.Context(), fmt.Sprint("shop-", i))
				if err != nil {
					t.Errorf("load: %v", err)
				}
				loaded[i] = cp
			}
		})
		for i := range savers {
			wantDiff(t, "what was loaded, and was acknowledged last", loaded[i].Position, position(saved[i]))
			wantCheckpoint(t, stores[0], fmt.Sprint("shop-", i), observer.Checkpoint{Position: loaded[i].Position})
		}
		h.clock.advance(ttl)
	}
}

// saveUntilFenced gives how many saves were acknowledged. begun is told of the
// first.
func saveUntilFenced(t *testing.T, s observer.StateStore, name string, l observer.Lease, begun chan<- struct{}) (saved int) {
	t.Helper()
	for {
		err := s.SaveCheckpoint(t.Context(), name, observer.Checkpoint{Position: position(saved + 1), Term: l.Term, Lease: l.Name})
		if saved == 0 {
			begun <- struct{}{}
		}
		if err != nil {
			if !errors.Is(err, observer.ErrFenced) {
				t.Errorf("save: %v", err)
			}
			return saved
		}
		saved++
	}
}

func nameModelTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"name/any history gives what a simple model gives": testNameModel,
	}
}

// leaseModel says how a lease behaves, in the simplest way.
type leaseModel struct {
	holder string
	term   int64
	until  time.Time
}

func (m *leaseModel) has(l observer.Lease) bool {
	return m.holder != "" && m.holder == l.Holder && m.term == l.Term
}

// testNameModel has three holders do anything to a lease, with answers that they
// remember for any time, and compares it with the model.
func testNameModel(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		name := fmt.Sprint("shop-", n)
		m, last := leaseModel{}, int64(0)
		known := []observer.Lease{{Name: name, Holder: "a", Term: 1}}
		pick := func() observer.Lease { return rapid.SampledFrom(known).Draw(t, "lease") }
		t.Repeat(map[string]func(*rapid.T){
			"pass": func(t *rapid.T) {
				h.clock.advance(rapid.SampledFrom([]time.Duration{time.Second, ttl}).Draw(t, "time"))
			},
			"acquire": func(t *rapid.T) {
				holder := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "holder")
				free := m.holder == "" || m.holder == holder || !m.until.After(h.clock.Now())
				l, err := s.AcquireLease(t.Context(), name, holder, ttl)
				if (err == nil) != free || err != nil && (!errors.Is(err, observer.ErrBusy) || !m.has(l)) {
					t.Fatalf("acquire for %s: %+v, %v; the model is %+v", holder, l, err, m)
				}
				if err != nil {
					return
				}
				if m.holder == holder {
					wantDiff(t, "term", m.term, l.Term)
				} else if l.Term <= last {
					t.Errorf("got term %d after %d", l.Term, last)
				}
				last, m = l.Term, leaseModel{holder, l.Term, h.clock.Now().Add(ttl)}
				known = append(known, l)
			},
			"renew": func(t *rapid.T) {
				l := pick()
				wantDiff(t, "held", m.has(l), len(renew(t, s, l)) == 1)
				if m.has(l) {
					m.until = h.clock.Now().Add(ttl)
				}
			},
			"release": func(t *rapid.T) {
				l := pick()
				release(t, s, l)
				if m.has(l) {
					m.holder = ""
				}
			},
			"save": func(t *rapid.T) {
				l := pick()
				stored := saveFenced(t, s, name, observer.Checkpoint{Term: l.Term})
				wantDiff(t, "stored", m.holder != "" && m.term == l.Term, stored)
			},
		})
	})
}
