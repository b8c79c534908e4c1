package storetest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func nameTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"name/one holder at a time":               eachName(testNameHeld),
		"name/acquired again under the same term": eachName(testNameAgain),
		"name/released at once":                   eachName(testNameReleased),
		"name/taken over when it ran out":         eachName(testNameTakenOver),
		"name/renewed after it ran out":           eachName(testNameResumed),
		"name/renewals are told apart":            eachName(testNameRenewals),
		"name/never shortened":                    eachName(testNameNotShortened),
		"name/listed by prefix":                   testNameList,
		"name/names of any text":                  testNameTexts,
		"name/a holder has a name":                testNameNobody,
		"name/pruned, and no term comes back":     testNamePruned,
		"name/terms survive":                      testNameSurvives,
		"name/one of 64 gets it":                  oneStore(testNameRace),
		"two stores/one of 64 gets a name":        twoStores(testNameRace),
	}
}

// ttl is how long the leases of the tests run.
const ttl = 10 * time.Second

// names are leases as two processes see them, each by a store of its own where the
// store under test can have two on the same data.
type names struct {
	*testing.T
	h    *harness
	a, b observer.StateStore
}

func eachName(test func(names)) func(*testing.T, *harness) {
	return func(t *testing.T, h *harness) {
		t.Helper()
		t.Run("one store", func(t *testing.T) {
			t.Parallel()
			s := h.store(t, Options{})
			test(names{t, h, s, s})
		})
		t.Run("two stores", func(t *testing.T) {
			t.Parallel()
			h, opts := &harness{opener: h.opener, clock: newClock()}, Options{Dir: t.TempDir()}
			test(names{t, h, h.store(t, opts), h.store(t, opts)})
		})
	}
}

func acquire(t tester, s observer.StateStore, name, holder string) observer.Lease {
	t.Helper()
	l, err := s.AcquireLease(t.Context(), name, holder, ttl)
	if err != nil {
		t.Fatalf("acquire %s for %s: %v", name, holder, err)
	}
	return l
}

// renew gives those of leases that are held still, by name.
func renew(t tester, s observer.StateStore, leases ...observer.Lease) []observer.Lease {
	t.Helper()
	held, err := s.RenewLeases(t.Context(), ttl, leases...)
	if err != nil {
		t.Fatalf("renew: %v", err)
	}
	slices.SortFunc(held, func(a, b observer.Lease) int { return strings.Compare(a.Name, b.Name) })
	return held
}

func release(t tester, s observer.StateStore, l observer.Lease) {
	t.Helper()
	if err := s.ReleaseLease(t.Context(), l); err != nil {
		t.Fatalf("release %s: %v", l.Name, err)
	}
}

func leases(t tester, s observer.StateStore, prefix string) []observer.Lease {
	t.Helper()
	all, err := s.Leases(t.Context(), prefix)
	if err != nil {
		t.Fatalf("list leases: %v", err)
	}
	return all
}

// wantBusy tries to get what want has.
func wantBusy(t tester, s observer.StateStore, holder string, want observer.Lease) {
	t.Helper()
	got, err := s.AcquireLease(t.Context(), want.Name, holder, ttl)
	wantError(t, "acquire for "+holder, err, observer.ErrBusy)
	wantDiff(t, "the present lease", want, got)
}

// at is a lease that is looked at again after a while.
func at(l observer.Lease, later time.Duration) observer.Lease {
	l.Remaining -= later
	return l
}

func testNameHeld(n names) {
	l := acquire(n, n.a, "shop", "a")
	now := n.h.clock.Now()
	wantDiff(n, "lease", observer.Lease{
		Name: "shop", Holder: "a", Term: l.Term, Since: now, Expires: now.Add(ttl), Remaining: ttl,
	}, l)
	if l.Term <= 0 || !l.Running() {
		n.Errorf("got term %d, running %v, want a positive one that runs", l.Term, l.Running())
	}
	wantBusy(n, n.b, "b", l)
	n.h.clock.advance(ttl - time.Microsecond)
	wantBusy(n, n.b, "b", at(l, ttl-time.Microsecond))
	other := acquire(n, n.b, "other", "b")
	if other.Term == l.Term {
		n.Errorf("two names have term %d", l.Term)
	}
	wantDiff(n, "listed", []observer.Lease{other, at(l, ttl-time.Microsecond)}, leases(n, n.a, ""))
}

// testNameAgain is about answers that were lost, too.
func testNameAgain(n names) {
	first := acquire(n, n.a, "shop", "a")
	n.h.clock.advance(time.Second)
	for _, s := range []observer.StateStore{n.a, n.b} {
		got := acquire(n, s, "shop", "a")
		want := first
		want.Expires = first.Expires.Add(time.Second)
		wantDiff(n, "acquired again", want, got)
	}
	n.h.clock.advance(5 * ttl)
	got := acquire(n, n.a, "shop", "a")
	wantDiff(n, "term after it ran out", first.Term, got.Term)
	wantDiff(n, "since after it ran out", first.Since, got.Since)
	wantBusy(n, n.b, "b", got)
}

func testNameReleased(n names) {
	l := acquire(n, n.a, "shop", "a")
	stranger, old := l, l
	stranger.Holder, old.Term = "b", l.Term-1
	release(n, n.b, stranger)
	release(n, n.b, old)
	wantBusy(n, n.b, "b", l)
	release(n, n.a, l)
	ended := l
	ended.Holder, ended.Expires, ended.Remaining = "", n.h.clock.Now(), 0
	wantDiff(n, "released", []observer.Lease{ended}, leases(n, n.b, ""))
	wantDiff(n, "renewed after its end", 0, len(renew(n, n.a, l, ended)))
	again := acquire(n, n.a, "shop", "a")
	if again.Term <= l.Term {
		n.Errorf("got term %d after the release of term %d, want a higher one", again.Term, l.Term)
	}
	release(n, n.a, l)
	wantBusy(n, n.b, "b", again)
	release(n, n.b, again)
	n.h.clock.advance(time.Second)
	release(n, n.b, again)
	next := acquire(n, n.b, "shop", "b")
	if next.Term <= again.Term {
		n.Errorf("got term %d after term %d, want a higher one", next.Term, again.Term)
	}
	release(n, n.a, again)
	wantBusy(n, n.a, "a", next)
}

func testNameTakenOver(n names) {
	l := acquire(n, n.a, "shop", "a")
	n.h.clock.advance(ttl)
	if listed := leases(n, n.b, ""); len(listed) != 1 || listed[0].Running() || listed[0].Holder != "a" {
		n.Errorf("got %+v, want one that ran out", listed)
	}
	taken := acquire(n, n.b, "shop", "b")
	if taken.Term <= l.Term || !taken.Since.Equal(n.h.clock.Now()) {
		n.Errorf("got term %d since %s, want one after %d since now", taken.Term, taken.Since, l.Term)
	}
	wantDiff(n, "renewed by the one who lost it", 0, len(renew(n, n.a, l)))
	release(n, n.a, l)
	wantBusy(n, n.a, "a", taken)
	n.h.clock.advance(ttl)
	back := acquire(n, n.a, "shop", "a")
	if back.Term <= taken.Term {
		n.Errorf("got term %d, want one after %d", back.Term, taken.Term)
	}
	wantDiff(n, "renewed under the first term", 0, len(renew(n, n.a, l)))
}

func testNameResumed(n names) {
	l := acquire(n, n.a, "shop", "a")
	n.h.clock.advance(3 * ttl)
	held := renew(n, n.a, l)
	want := l
	want.Expires = n.h.clock.Now().Add(ttl)
	wantDiff(n, "renewed", []observer.Lease{want}, held)
	wantBusy(n, n.b, "b", want)
}

func testNameRenewals(n names) {
	held, lost, released, other := acquire(n, n.a, "held", "a"), acquire(n, n.a, "lost", "a"), acquire(n, n.a, "released", "a"), acquire(n, n.b, "other", "b")
	release(n, n.a, released)
	n.h.clock.advance(ttl)
	acquire(n, n.b, "lost", "b")
	older, unknown := held, held
	older.Term--
	unknown.Name = "unknown"
	foreign := other
	foreign.Holder = "a"
	got := renew(n, n.a, held, lost, older, released, unknown, foreign, other)
	held.Expires, other.Expires = n.h.clock.Now().Add(ttl), n.h.clock.Now().Add(ttl)
	wantDiff(n, "held", []observer.Lease{held, other}, got)
	wantDiff(n, "of none", 0, len(renew(n, n.a)))
}

func testNameNotShortened(n names) {
	l := acquire(n, n.a, "shop", "a")
	for what, shorten := range map[string]func() (observer.Lease, error){
		"acquire": func() (observer.Lease, error) { return n.b.AcquireLease(n.Context(), "shop", "a", time.Second) },
		"renew": func() (observer.Lease, error) {
			held, err := n.b.RenewLeases(n.Context(), time.Second, l)
			return append(held, observer.Lease{})[0], err
		},
	} {
		got, err := shorten()
		if err != nil {
			n.Errorf("%s: %v", what, err)
		}
		wantDiff(n, what+" for less", l, got)
	}
}

func testNameList(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, name := range []string{"database/shop", "database/a%b", "database/a_b", "consumer/x/1", "consumer/x1", "Consumer/x/2"} {
		acquire(t, s, name, "a")
	}
	for prefix, want := range map[string][]string{
		"":             {"Consumer/x/2", "consumer/x/1", "consumer/x1", "database/a%b", "database/a_b", "database/shop"},
		"database/":    {"database/a%b", "database/a_b", "database/shop"},
		"database/a_":  {"database/a_b"},
		"database/a%":  {"database/a%b"},
		"consumer/x/":  {"consumer/x/1"},
		"consumer/x/1": {"consumer/x/1"},
		"data%":        nil,
		"nothing":      nil,
	} {
		var got []string
		for _, l := range leases(t, s, prefix) {
			got = append(got, l.Name)
		}
		wantDiff(t, "prefix "+prefix, want, got)
	}
}

func testNameTexts(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for i, name := range []string{"", "a ", "a", "A", "zażółć/'\"; --\u202e", "a\x00b", "bad \xff", "p/" + strings.Repeat("long ", 1000), `escaped:"x"`} {
		l := acquire(t, s, name, fmt.Sprint("h\x00\xff", i))
		wantDiff(t, "holder", fmt.Sprint("h\x00\xff", i), l.Holder)
		wantDiff(t, "renewed", []observer.Lease{l}, renew(t, s, l))
		listed := leases(t, s, name)
		if !slices.Contains(listed, l) {
			t.Errorf("%.20q is not among %d listed", name, len(listed))
		}
		wantBusy(t, s, "somebody", l)
	}
}

func testNameNobody(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	if l, err := s.AcquireLease(t.Context(), "shop", "", ttl); err == nil {
		t.Errorf("nobody acquired %+v", l)
	}
	release(t, s, acquire(t, s, "shop", "a"))
	if l, err := s.AcquireLease(t.Context(), "shop", "", ttl); err == nil {
		t.Errorf("nobody acquired %+v", l)
	}
}

func testNamePruned(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	prune := func(limit, want int) {
		t.Helper()
		if n, err := s.PruneLeases(t.Context(), time.Hour, limit); err != nil || n != want {
			t.Errorf("pruned %d with error %v, want %d", n, err, want)
		}
	}
	old := acquire(t, s, "old", "a")
	release(t, s, acquire(t, s, "released", "a"))
	last := acquire(t, s, "last", "a")
	h.clock.advance(time.Hour - time.Microsecond)
	prune(10, 0)
	h.clock.advance(ttl + time.Microsecond)
	renew(t, s, last)
	prune(1, 1)
	prune(10, 1)
	prune(10, 0)
	wantDiff(t, "left", 1, len(leases(t, s, "")))
	wantDiff(t, "renewed when it is gone", 0, len(renew(t, s, old)))
	if again := acquire(t, s, "old", "a"); again.Term <= last.Term {
		t.Errorf("got term %d after term %d was given", again.Term, last.Term)
	}
}

func testNameSurvives(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	s := h.open(t, opts)
	kept, gone := acquire(t, s, "kept", "a"), acquire(t, s, "gone", "a")
	release(t, s, gone)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(time.Second)
	s = h.store(t, opts)
	wantBusy(t, s, "b", at(kept, time.Second))
	if next := acquire(t, s, "gone", "b"); next.Term <= gone.Term {
		t.Errorf("got term %d after term %d", next.Term, gone.Term)
	}
}

func testNameRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	last := int64(0)
	for round := range 5 {
		var winners tally
		together(racers, func(i int) {
			holder := fmt.Sprint("holder-", round, "-", i)
			l, err := stores[i%len(stores)].AcquireLease(t.Context(), "shop", holder, ttl)
			if err == nil {
				winners.add(l.Holder)
			} else if !errors.Is(err, observer.ErrBusy) || l.Holder == holder {
				t.Errorf("acquire: %+v, %v", l, err)
			}
		})
		if len(winners.keys) != 1 {
			t.Fatalf("got %d winners, want 1", len(winners.keys))
		}
		l := leases(t, stores[0], "shop")[0]
		wantDiff(t, "holder", winners.keys[0], l.Holder)
		if l.Term <= last {
			t.Errorf("got term %d after term %d", l.Term, last)
		}
		last = l.Term
		h.clock.advance(ttl)
	}
}
