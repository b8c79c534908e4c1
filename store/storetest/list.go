package storetest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func listTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"list/oldest first":                  testListOrder,
		"list/filters":                       testListFilters,
		"list/order is not moved by updates": testListStable,
		"keys/of every delivery":             testKeys,
		"stats/of an empty store":            testStatsEmpty,
		"stats/counts":                       testStats,
		"stats/error texts are bounded":      testStatsManyErrors,
		"remove/unknown, leased, then free":  testRemove,
		"context/ended: nothing changes":     testContextEnded,
	}
}

func testListOrder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, n := range []int{5, 3, 9, 1} {
		insert(t, s, dead(n))
		h.clock.advance(time.Microsecond)
	}
	insert(t, s, dead(8), dead(2)) // at the same time: by key
	wantDiff(t, "order", keysOf(dead(5), dead(3), dead(9), dead(1), dead(2), dead(8)), list(t, s, observer.DeliveryFilter{}))
}

func testKeys(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	keys := func() []string {
		var got []string
		if err := s.DeliveryKeys(t.Context(), func(key string) { got = append(got, key) }); err != nil {
			t.Fatal(err)
		}
		slices.Sort(got)
		return got
	}
	wantDiff(t, "keys of an empty store", []string(nil), keys())
	insert(t, s, dead(5), scheduled(3, h.clock.Now()), dead(1))
	if err := s.RemoveDelivery(t.Context(), dead(5).Key); err != nil {
		t.Fatal(err)
	}
	wantDiff(t, "keys", keysOf(dead(1), scheduled(3, h.clock.Now())), keys())
}

// listed stores 0 to 9, a minute apart; odd ones are dead, multiples of 3 are
// of the observer "third".
func listed(t *testing.T, h *harness) (s observer.StateStore, start time.Time) {
	t.Helper()
	s, start = h.store(t, Options{}), h.clock.Now()
	for n := range 10 {
		d := scheduled(n, h.clock.Now())
		if n%2 == 1 {
			d = dead(n)
		}
		if n%3 == 0 {
			d.Observer = "third"
		}
		insert(t, s, d)
		h.clock.advance(time.Minute)
	}
	return s, start
}

func testListFilters(t *testing.T, h *harness) {
	s, start := listed(t, h)
	for name, test := range map[string]struct {
		filter observer.DeliveryFilter
		want   []int
	}{
		"all":              {observer.DeliveryFilter{}, []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}},
		"dead":             {observer.DeliveryFilter{State: observer.Dead}, []int{1, 3, 5, 7, 9}},
		"scheduled":        {observer.DeliveryFilter{State: observer.Scheduled}, []int{0, 2, 4, 6, 8}},
		"unknown state":    {observer.DeliveryFilter{State: "done"}, nil},
		"observer":         {observer.DeliveryFilter{Observer: "third"}, []int{0, 3, 6, 9}},
		"unknown observer": {observer.DeliveryFilter{Observer: "thir%"}, nil},
		"since":            {observer.DeliveryFilter{Since: start.Add(7 * time.Minute)}, []int{7, 8, 9}},
		"just after":       {observer.DeliveryFilter{Since: start.Add(7*time.Minute + time.Microsecond)}, []int{8, 9}},
		"limit":            {observer.DeliveryFilter{Limit: 2}, []int{0, 1}},
		"offset":           {observer.DeliveryFilter{Offset: 8}, []int{8, 9}},
		"page":             {observer.DeliveryFilter{Offset: 4, Limit: 3}, []int{4, 5, 6}},
		"page of dead":     {observer.DeliveryFilter{State: observer.Dead, Offset: 1, Limit: 2}, []int{3, 5}},
		"last page":        {observer.DeliveryFilter{Offset: 9, Limit: 3}, []int{9}},
		"past the end":     {observer.DeliveryFilter{Offset: 99, Limit: 3}, nil},
		"everything":       {observer.DeliveryFilter{State: observer.Dead, Observer: "third", Since: start.Add(time.Minute), Offset: 1, Limit: 5}, []int{9}},
	} {
		var want []string
		for _, n := range test.want {
			want = append(want, delivery(n).Key)
		}
		wantDiff(t, name, want, list(t, s, test.filter))
	}
}

func testListStable(t *testing.T, h *harness) {
	s, _ := listed(t, h)
	before := list(t, s, observer.DeliveryFilter{})
	for _, n := range []int{7, 2} {
		if err := s.UpdateDelivery(t.Context(), claim(t, s, delivery(n).Key, "a"), "a"); err != nil {
			t.Fatal(err)
		}
	}
	wantDiff(t, "order", before, list(t, s, observer.DeliveryFilter{}))
}

func stats(t *testing.T, s observer.StateStore) observer.DeliveryStats {
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

func testStats(t *testing.T, h *harness) {
	s, start := listed(t, h)
	gone := dead(100)
	gone.Reason, gone.Error = observer.ReasonGone, "status 410"
	insert(t, s, gone)
	claim(t, s, delivery(3).Key, "a") // a lease does not change what is counted
	wantDiff(t, "stats", observer.DeliveryStats{
		Scheduled: 5, Dead: 6, OldestDead: start.Add(time.Minute),
		DeadByObserver: map[string]int{"notify": 4, "third": 2},
		DeadByReason:   map[observer.Reason]int{observer.ReasonPermanent: 5, observer.ReasonGone: 1},
		DeadByError:    map[string]int{"status 400": 5, "status 410": 1},
	}, stats(t, s))
	for _, n := range []int{1, 100} {
		remove(t, s, delivery(n).Key)
	}
	wantDiff(t, "stats after removing", observer.DeliveryStats{
		Scheduled: 5, Dead: 4, OldestDead: start.Add(3 * time.Minute),
		DeadByObserver: map[string]int{"notify": 2, "third": 2},
		DeadByReason:   map[observer.Reason]int{observer.ReasonPermanent: 4},
		DeadByError:    map[string]int{"status 400": 4},
	}, stats(t, s))
}

func testStatsManyErrors(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n := range 120 {
		d := dead(n)
		d.Error = "most frequent"
		if n >= 20 {
			d.Error = fmt.Sprintf("error %d", n)
		}
		insert(t, s, d)
	}
	st := stats(t, s)
	sum := 0
	for _, n := range st.DeadByError {
		sum += n
	}
	if len(st.DeadByError) > 101 || sum != 120 || st.DeadByError["most frequent"] != 20 {
		t.Errorf("got %d groups that count %d (20 of them %d), want at most 101, 120 and 20",
			len(st.DeadByError), sum, st.DeadByError["most frequent"])
	}
}

func testRemove(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), scheduled(2, h.clock.Now()))
	wantError(t, "remove unknown", s.RemoveDelivery(t.Context(), "nothing"), observer.ErrNotFound)
	claim(t, s, dead(1).Key, "a")
	wantError(t, "remove leased", s.RemoveDelivery(t.Context(), dead(1).Key), observer.ErrBusy)
	wantDiff(t, "stored", keysOf(dead(1), dead(2)), list(t, s, observer.DeliveryFilter{}))
	h.clock.advance(lease)
	remove(t, s, dead(1).Key)
	remove(t, s, dead(2).Key)
	wantDiff(t, "stored", keysOf(), list(t, s, observer.DeliveryFilter{}))
	wantError(t, "remove again", s.RemoveDelivery(t.Context(), dead(1).Key), observer.ErrNotFound)
}
