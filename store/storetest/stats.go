package storetest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func statsTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"stats/of an empty store":     testStatsEmpty,
		"stats/states":                testStatsStates,
		"stats/dead letters":          testStatsDead,
		"stats/the oldest due":        testStatsOldestDue,
		"stats/errors by fingerprint": testStatsErrors,
		"stats/the frequent errors":   testStatsManyErrors,
		"stats/waiting by endpoint":   testStatsWaiting,
	}
}

func stats(t tester, s observer.StateStore) observer.DeliveryStats {
	t.Helper()
	st, err := s.DeliveryStats(t.Context())
	if err != nil {
		t.Fatalf("stats: %v", err)
	}
	return st
}

func testStatsEmpty(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantDiff(t, "stats", observer.DeliveryStats{}, stats(t, s))
}

func testStatsStates(t *testing.T, h *harness) {
	s, _ := listed(t, h)
	wantDiff(t, "states", map[observer.State]int{observer.Scheduled: 5, observer.Dead: 5}, stats(t, s).States)
	insert(t, s, queued(10, h.clock.Now()), strict(11, "x"), strict(12, "x"))
	begin(t, s, delivery(13), "a")
	claim(t, s, delivery(3).Key, "a") // dead
	claim(t, s, delivery(4).Key, "a") // scheduled
	finish(t, s, delivery(6).Key)
	wantDiff(t, "states", map[observer.State]int{
		observer.Scheduled: 3, observer.Dead: 4, observer.Queued: 2, observer.Parked: 1, observer.Running: 3, observer.Done: 1,
	}, stats(t, s).States)
	h.clock.advance(lease)
	wantDiff(t, "states when the leases are over", map[observer.State]int{
		observer.Scheduled: 4, observer.Dead: 5, observer.Queued: 2, observer.Parked: 1, observer.Unknown: 1, observer.Done: 1,
	}, stats(t, s).States)
}

func testStatsDead(t *testing.T, h *harness) {
	s, start := listed(t, h)
	type figures struct {
		Oldest     time.Time
		ByObserver map[string]int
		ByReason   map[observer.Reason]int
	}
	dead := func() figures {
		st := stats(t, s)
		return figures{st.OldestDead, st.DeadByObserver, st.DeadByReason}
	}
	wantDiff(t, "dead", figures{
		start.Add(time.Minute), map[string]int{"notify": 3, "third": 2},
		map[observer.Reason]int{observer.ReasonPermanent: 4, observer.ReasonGone: 1},
	}, dead())
	remove(t, s, delivery(1).Key)
	finish(t, s, delivery(3).Key)
	claim(t, s, delivery(5).Key, "a") // it is running, and counted as nothing else
	wantDiff(t, "dead while one is run", figures{
		start.Add(7 * time.Minute), map[string]int{"notify": 1, "third": 1},
		map[observer.Reason]int{observer.ReasonPermanent: 1, observer.ReasonGone: 1},
	}, dead())
	h.clock.advance(lease)
	requeue(t, s, delivery(7).Key, h.clock.Now())
	wantDiff(t, "dead after some are gone", figures{
		start.Add(5 * time.Minute), map[string]int{"notify": 1, "third": 1},
		map[observer.Reason]int{observer.ReasonPermanent: 2},
	}, dead())
}

func testStatsOldestDue(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	insert(t, s, dead(1), queued(2, now.Add(time.Second)))
	wantDiff(t, "before anything is due", time.Time{}, stats(t, s).OldestDue)
	insert(t, s, scheduled(3, now), queued(4, now.Add(-time.Hour)), strict(5, "x"), strict(6, "x"))
	wantDiff(t, "oldest due", now.Add(-time.Hour), stats(t, s).OldestDue)
	claim(t, s, delivery(4).Key, "a")
	finish(t, s, delivery(5).Key)
	wantDiff(t, "while that runs", now, stats(t, s).OldestDue)
	h.clock.advance(lease)
	wantDiff(t, "when its lease is over", now.Add(-time.Hour), stats(t, s).OldestDue)
}

func testStatsErrors(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	texts := map[string]bool{}
	for n := range 30 {
		d := dead(n)
		if n < 20 {
			d.Error = fmt.Sprintf(`connect to "host-%d": refused after %d ms`, n, 1000+n)
			texts[d.Error] = true
		}
		insert(t, s, d)
	}
	alive := scheduled(30, h.clock.Now())
	alive.Error = "status 400"
	insert(t, s, alive)
	got := stats(t, s).DeadByError
	first := observer.Fingerprint(`connect to "another": refused after 5 ms`)
	if !texts[got[first].Example] {
		t.Errorf("the example is %q, which is none of the errors", got[first].Example)
	}
	wantDiff(t, "errors", map[string]observer.ErrorCount{
		first:                              {Count: 20, Example: got[first].Example},
		observer.Fingerprint("status 400"): {Count: 10, Example: "status 400"},
	}, got)
}

// testStatsManyErrors: of errors without end those are counted that are frequent.
func testStatsManyErrors(t *testing.T, h *harness) {
	const bound, groups = 1000, 1040
	s := h.store(t, Options{MaxDead: 2 * groups})
	var ds []*observer.Delivery
	all := map[string]observer.ErrorCount{}
	for group := range groups {
		text := "refused by " + strings.Map(func(digit rune) rune { return digit - '0' + 'a' }, strconv.Itoa(group))
		count := 1 + group%3%2 // every third one is there twice
		for range count {
			d := dead(len(ds))
			d.Error = text
			ds = append(ds, d)
		}
		all[observer.Fingerprint(text)] = observer.ErrorCount{Count: count, Example: text}
	}
	insert(t, s, ds...)
	order := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		return cmp.Or(cmp.Compare(all[b].Count, all[a].Count), cmp.Compare(a, b))
	})
	want := map[string]observer.ErrorCount{}
	for _, fingerprint := range order[:bound] {
		want[fingerprint] = all[fingerprint]
	}
	got := stats(t, s)
	wantDiff(t, "errors", want, got.DeadByError)
	wantDiff(t, "dead", len(ds), got.States[observer.Dead])
}

func testStatsWaiting(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n, endpoint := range []string{"a", "a", "b", "", "a", "c"} {
		d := strict(n, "x") // all but the first are parked
		d.Endpoint = endpoint
		insert(t, s, d)
	}
	claim(t, s, delivery(0).Key, "a")
	gone := dead(6)
	gone.Endpoint = "a"
	insert(t, s, gone)
	wantDiff(t, "waiting", map[string]int{"a": 3, "b": 1, "": 1, "c": 1}, stats(t, s).Waiting)
	finish(t, s, delivery(5).Key)
	wantDiff(t, "waiting", map[string]int{"a": 3, "b": 1, "": 1}, stats(t, s).Waiting)
}
