package storetest

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func shareTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"share/queues and endpoints take turns":        testShareTurns,
		"share/what is left goes to who has more":      testShareRest,
		"share/thousands for one endpoint":             testShareThousands,
		"share/room bounds each queue and endpoint":    testShareRoom,
		"share/room is asked about all of them":        testShareAsked,
		"share/room may be asked with a store in use":  testShareReentrant,
		"share/lower priorities first":                 testSharePriority,
		"share/priorities do not reach across":         testSharePriorityBands,
		"share/what others run is not counted as room": testShareRunning,
		"next due/leaves out what has no room":         testNextDueRoom,
	}
}

// to is a queued delivery for an endpoint, due some seconds ago.
func to(h *harness, n int, queue, endpoint string, ago int) *observer.Delivery {
	d := queued(n, h.clock.Now().Add(-time.Duration(ago)*time.Second))
	d.Queue, d.Endpoint = queue, endpoint
	return d
}

func bandOf(d *observer.Delivery) string { return d.Queue + "|" + d.Endpoint }

// shares counts deliveries by queue and endpoint.
func shares(ds []*observer.Delivery) map[string]int {
	counts := map[string]int{}
	for _, d := range ds {
		counts[bandOf(d)]++
	}
	return counts
}

// crowd stores deliveries for queues and endpoints, so many for each; those of
// the first have been due for longest.
func crowd(t *testing.T, h *harness, s observer.StateStore, bands [][2]string, counts []int) {
	t.Helper()
	var ds []*observer.Delivery
	for i, b := range bands {
		for range counts[i] {
			ds = append(ds, to(h, len(ds), b[0], b[1], 10_000-len(ds)))
		}
	}
	insert(t, s, ds...)
}

func testShareTurns(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	crowd(t, h, s, [][2]string{{"", "a"}, {"", "b"}, {"reports", "a"}, {"reports", ""}}, []int{50, 50, 50, 50})
	for range 3 {
		got := claimDue(t, s, "a", 8)
		wantDiff(t, "shares", map[string]int{"|a": 2, "|b": 2, "reports|a": 2, "reports|": 2}, shares(got))
	}
	fewer := claimDue(t, s, "a", 3)
	wantDiff(t, "of fewer than there are", 3, len(shares(fewer)))
}

func testShareRest(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	crowd(t, h, s, [][2]string{{"", "a"}, {"", "b"}, {"", "c"}}, []int{50, 1, 4})
	wantDiff(t, "shares", map[string]int{"|a": 6, "|b": 1, "|c": 4}, shares(claimDue(t, s, "a", 11)))
	wantDiff(t, "what is left", map[string]int{"|a": 44}, shares(claimDue(t, s, "a", 100)))
}

func testShareThousands(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	var ds []*observer.Delivery
	for n := range 3000 {
		ds = append(ds, to(h, n, "", "dead endpoint", 10_000-n))
	}
	for n := range 20 {
		ds = append(ds, to(h, 3000+n, "", fmt.Sprint("endpoint ", n), 0))
	}
	insert(t, s, ds...)
	got := shares(claimDue(t, s, "a", 21))
	if len(got) != 21 {
		t.Errorf("21 of 21 endpoints: got %v", got)
	}
	slow := func(_, endpoint string) int {
		if endpoint == "dead endpoint" {
			return 2
		}
		return 10
	}
	for n := range 20 {
		insert(t, s, to(h, 4000+n, "", fmt.Sprint("endpoint ", n%2), 0))
	}
	wantDiff(t, "with room", map[string]int{"|dead endpoint": 2, "|endpoint 0": 10, "|endpoint 1": 10},
		shares(claimRoom(t, s, "a", 100, slow)))
}

func testShareRoom(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	crowd(t, h, s, [][2]string{{"", "a"}, {"q", "a"}, {"", "b"}, {"", "c"}, {"q", "c"}}, []int{9, 9, 9, 9, 9})
	rooms := map[string]int{"|a": 2, "q|a": 5, "|b": 0, "|c": -1, "q|c": 100}
	room := func(queue, endpoint string) int { return rooms[queue+"|"+endpoint] }
	wantDiff(t, "shares", map[string]int{"|a": 2, "q|a": 5, "q|c": 9}, shares(claimRoom(t, s, "a", 100, room)))
	wantDiff(t, "no room at all", map[string]int{}, shares(claimRoom(t, s, "a", 100, func(string, string) int { return 0 })))
	wantDiff(t, "room and limit", map[string]int{"|a": 2, "q|a": 2}, shares(claimRoom(t, s, "a", 4, room)))
}

func testShareAsked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	crowd(t, h, s, [][2]string{{"", ""}, {"", "a"}, {"q", ""}, {"q", "a"}}, []int{1, 1, 1, 1})
	asked := map[string]bool{}
	room := func(queue, endpoint string) int {
		asked[queue+"|"+endpoint] = true
		return 0
	}
	want := map[string]bool{"|": true, "|a": true, "q|": true, "q|a": true}
	claimRoom(t, s, "a", 1, room)
	wantDiff(t, "asked by a claim", want, asked)
	clear(asked)
	nextDueRoom(t, s, room)
	wantDiff(t, "asked for the next due", want, asked)
}

// testShareReentrant: whoever answers may wait for somebody who uses the store.
func testShareReentrant(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, to(h, 1, "", "a", 1), dead(2))
	room := func(string, string) int {
		var wg sync.WaitGroup
		wg.Go(func() {
			update(t, s, claimOf(t, s, dead(2).Key, "b"), "b")
		})
		wg.Wait()
		return 1
	}
	wantDiff(t, "claimed", keysOf(delivery(1)), keys(claimRoom(t, s, "a", 1, room)))
	nextDueRoom(t, s, room)
}

func testSharePriority(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	var ds []*observer.Delivery
	for n, p := range []int{4, 0, 1, 2, 3, 1, 0, 4} {
		d := to(h, n, "q", "a", 100-n)
		d.Priority = p
		ds = append(ds, d)
	}
	insert(t, s, ds...)
	for _, n := range []int{2, 5, 1, 3, 6, 4, 0, 7} { // 0 counts as 2
		wantDiff(t, "the next", keysOf(delivery(n)), keys(claimDue(t, s, "a", 1)))
	}
}

func testSharePriorityBands(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n := range 10 {
		d := to(h, n, "", []string{"a", "b"}[n%2], 100)
		d.Priority = []int{observer.FirstPriority, observer.LastPriority}[n%2]
		insert(t, s, d)
	}
	wantDiff(t, "shares", map[string]int{"|a": 2, "|b": 2}, shares(claimDue(t, s, "a", 4)))
}

func testShareRunning(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	crowd(t, h, s, [][2]string{{"", "a"}}, []int{10})
	one := func(string, string) int { return 1 }
	first, second := claimRoom(t, s, "a", 10, one), claimRoom(t, s, "b", 10, one)
	wantDiff(t, "one, then the next", keysOf(delivery(0), delivery(1)), keys(append(first, second...)))
}

func testNextDueRoom(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	insert(t, s, to(h, 1, "", "a", 60), to(h, 2, "q", "a", 30), to(h, 3, "", "b", -60), to(h, 4, "", "b", -90))
	only := func(allowed ...string) observer.Room {
		return func(queue, endpoint string) int {
			if slices.Contains(allowed, queue+"|"+endpoint) {
				return 1
			}
			return 0
		}
	}
	wantDiff(t, "room for all", now.Add(-time.Minute), nextDueRoom(t, s, only("|a", "q|a", "|b")))
	wantDiff(t, "not for the longest due", now.Add(-30*time.Second), nextDueRoom(t, s, only("q|a", "|b")))
	wantDiff(t, "only for what is due later", now.Add(time.Minute), nextDueRoom(t, s, only("|b")))
	wantDiff(t, "no room", time.Time{}, nextDueRoom(t, s, only()))
	claim(t, s, delivery(1).Key, "a")
	wantDiff(t, "the end of a lease", now.Add(lease), nextDueRoom(t, s, only("|a")))
	wantDiff(t, "not the end of a lease without room", now.Add(-30*time.Second), nextDueRoom(t, s, only("q|a")))
}
