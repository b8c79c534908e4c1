package deduptest

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	observer "github.com/fraiseql/observer"
)

// StateSubject is a state store under test.
type StateSubject struct {
	Subject
	State observer.DedupStateStore
}

// RunState runs the suite for a store that forgets nothing: [Run], and what is
// agreed upon.
func RunState(t *testing.T, open func(t *testing.T) StateSubject) {
	t.Helper()
	Run(t, func(t *testing.T) Subject { t.Helper(); return open(t).Subject })
	for name, test := range map[string]func(*testing.T, StateSubject){
		"marks are listed":                testMarks,
		"pruned when it may be":           testPrune,
		"pruned in batches":               testPruneBatch,
		"a new view is that of the state": testNewView,
		"a view changes once":             testChangeView,
		"agreed when all adopted it":      testAgreed,
		"a session ends":                  testSessionEnds,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open(t))
		})
	}
}

func testMarks(t *testing.T, s StateSubject) {
	s.want(t, "claimed", "a", observer.DedupClaimed)
	s.finish(t, s.Unit, "short")
	s.Pass(2 * s.Unit)
	keys := []string{"", "a", "b", "c\xff", "d"}
	s.finish(t, lease, keys...)
	var got []string
	for after, more := "", true; more; {
		marks, err := s.State.DedupMarks(t.Context(), after, 2)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range marks {
			if m.Keep <= 0 || m.Keep > lease {
				t.Errorf("%q is kept for %s", m.Key, m.Keep)
			}
			got, after = append(got, m.Key), m.Key
		}
		more = len(marks) > 0
	}
	slices.Sort(got)                                                   // a store may have an order of its own
	if d := cmp.Diff([]string{"a", "b", "c\xff", "d"}, got); d != "" { // nothing is after ""
		t.Errorf("marks (-want +got):\n%s", d)
	}
}

func (s StateSubject) prune(t *testing.T, limit, want int) {
	t.Helper()
	n, err := s.State.PruneDedup(t.Context(), limit)
	if err != nil || n != want {
		t.Errorf("pruned %d, %v, want %d", n, err, want)
	}
}

func testPrune(t *testing.T, s StateSubject) {
	s.claim(t, "claimed", "a", 3*s.Unit)
	s.claim(t, "renewed", "a", 3*s.Unit)
	s.finish(t, 3*s.Unit, "done")
	s.finish(t, lease, "kept")
	s.prune(t, 100, 0)
	s.claim(t, "renewed", "a", lease)
	s.Pass(4 * s.Unit)
	s.prune(t, 100, 2)
	s.want(t, "claimed", "b", observer.DedupClaimed)
	s.want(t, "renewed", "b", observer.DedupBusy)
	s.want(t, "done", "b", observer.DedupClaimed)
	s.want(t, "kept", "b", observer.DedupDone)
}

func testPruneBatch(t *testing.T, s StateSubject) {
	s.finish(t, s.Unit, manyKeys("k", 5)...)
	s.Pass(2 * s.Unit)
	s.prune(t, 3, 3)
	s.prune(t, 3, 2)
	s.prune(t, 3, 0)
	s.finish(t, lease, "kept")
	s.finish(t, s.Unit, manyKeys("l", 5)...)
	s.Pass(2 * s.Unit)
	removed := 0
	for n := 1; n > 0; removed += n {
		var err error
		if n, err = s.State.PruneDedup(t.Context(), 3); err != nil {
			t.Fatal(err)
		}
	}
	if removed != 5 {
		t.Errorf("removed %d around what is kept, want 5", removed)
	}
}

func (s StateSubject) view(t *testing.T, want observer.DedupView) {
	t.Helper()
	got, err := s.State.DedupView(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("view (-want +got):\n%s", d)
	}
}

func testNewView(t *testing.T, s StateSubject) {
	s.view(t, observer.DedupView{Generation: 1, Place: observer.DedupInState, Agreed: true})
}

func testChangeView(t *testing.T, s StateSubject) {
	change := func(from int64, place observer.DedupPlace, epoch string, want bool) {
		t.Helper()
		changed, err := s.State.ChangeDedupView(t.Context(), from, place, epoch)
		if err != nil || changed != want {
			t.Fatalf("change from %d: %v, %v, want %v", from, changed, err, want)
		}
	}
	change(1, observer.DedupFilling, "e1", true)
	s.view(t, observer.DedupView{Generation: 2, Place: observer.DedupFilling, Epoch: "e1", Agreed: true})
	change(1, observer.DedupInState, "", false)
	change(3, observer.DedupInState, "", false)
	change(2, observer.DedupInFront, "e1", true)
	s.view(t, observer.DedupView{Generation: 3, Place: observer.DedupInFront, Epoch: "e1", Agreed: true})
}

func (s StateSubject) hold(t *testing.T, session string, adopted int64, lease time.Duration) {
	t.Helper()
	if err := s.State.HoldDedupSession(t.Context(), session, adopted, lease); err != nil {
		t.Fatal(err)
	}
}

func testAgreed(t *testing.T, s StateSubject) {
	view := observer.DedupView{Generation: 1, Place: observer.DedupInState}
	s.hold(t, "a", 0, lease)
	s.hold(t, "b", 1, lease)
	s.view(t, view)
	s.hold(t, "a", 1, lease)
	view.Agreed = true
	s.view(t, view)
	if _, err := s.State.ChangeDedupView(t.Context(), 1, observer.DedupInState, ""); err != nil {
		t.Fatal(err)
	}
	view.Generation, view.Agreed = 2, false
	s.hold(t, "b", 2, lease)
	s.view(t, view)
	s.hold(t, "a", 2, lease)
	view.Agreed = true
	s.view(t, view)
}

func testSessionEnds(t *testing.T, s StateSubject) {
	view := observer.DedupView{Generation: 1, Place: observer.DedupInState}
	s.hold(t, "short", 0, 2*s.Unit)
	s.hold(t, "long", 0, lease)
	s.hold(t, "renewed", 0, s.Unit)
	s.hold(t, "renewed", 0, lease)
	s.Pass(3 * s.Unit)
	s.prune(t, 100, 1)
	for _, session := range []string{"long", "renewed"} {
		s.view(t, view)
		if err := s.State.EndDedupSession(t.Context(), session); err != nil {
			t.Fatal(err)
		}
	}
	view.Agreed = true
	s.view(t, view)
}
