package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func laneTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"lane/parked behind what blocks":            testPark,
		"lane/not behind what does not block":       testParkNot,
		"lane/parked behind parked ones":            testParkBehindParked,
		"lane/actions of one event go together":     testParkSameEvent,
		"lane/whatever the state of a later one":    testParkStates,
		"lane/dead ones are never parked":           testParkDead,
		"lane/observers and entities are separate":  testParkSeparate,
		"lane/behind what is being run":             testParkLeased,
		"lane/a mixture of orders":                  testParkMixed,
		"lane/blocked":                              testBlocked,
		"lane/parked ones are not due":              testParkedNotDue,
		"lane/a person may run a parked one":        testParkedClaimed,
		"lane/put back, a parked one is parked":     testParkedPutBack,
		"lane/put back when nothing blocks, queued": testParkedPutBackFree,
	}
}

// blockers are ways to be before others in the lane of an entity, by whether
// those wait.
func blockers(t *testing.T, s observer.StateStore, n int, order observer.Order) map[string]bool {
	t.Helper()
	waits := map[string]bool{}
	for _, b := range []struct {
		name           string
		state          observer.State
		block          bool
		strict, entity bool
	}{
		{"queued", observer.Queued, false, true, true},
		{"scheduled", observer.Scheduled, false, true, false},
		{"unknown", observer.Unknown, false, true, false},
		{"done", observer.Done, true, false, false},
		{"dropped", observer.Dropped, true, false, false},
		{"dead", observer.Dead, false, false, false},
		{"dead and blocking", observer.Dead, true, true, false},
	} {
		n++
		d := queued(n, time.Time{})
		d.Event.EntityID, d.Order, d.BlockWhenDead = b.name, order, b.block
		insert(t, s, d)
		if b.state != observer.Queued {
			fail(t, s, d.Key, b.state)
		}
		waits[b.name] = order == observer.OrderStrict && b.strict || order == observer.OrderEntity && b.entity
	}
	return waits
}

func testPark(t *testing.T, h *harness) {
	for _, order := range []observer.Order{observer.OrderStrict, observer.OrderEntity} {
		t.Run(string(order), func(t *testing.T) {
			t.Parallel()
			s := h.store(t, Options{})
			n := 100
			for entity, waits := range blockers(t, s, 0, order) {
				d := strict(n, entity)
				n++
				if d.Order = order; waits {
					wantStored(t, s, d, observer.Parked)
				} else {
					wantStored(t, s, d, observer.Queued)
				}
			}
		})
	}
}

func testParkNot(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n, order := range []observer.Order{"", observer.OrderNone} {
		first, second := strict(10*n, "x"), strict(10*n+1, "x")
		first.Order, second.Order = order, order
		wantStored(t, s, first, observer.Queued)
		wantStored(t, s, second, observer.Queued)
	}
	tried := inEntityOrder(30, "x")
	tried.Attempts = []observer.Attempt{{Number: 1, Error: "status 503"}}
	wantStored(t, s, tried, observer.Queued)
	wantStored(t, s, inEntityOrder(31, "x"), observer.Queued) // the first attempt at 30 was made
}

func testParkBehindParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for entity, in := range map[string]func(int, string) *observer.Delivery{"x": strict, "y": inEntityOrder} {
		first := map[string]int{"x": 1, "y": 11}[entity]
		wantStored(t, s, in(first, entity), observer.Queued)
		for n := first + 1; n < first+5; n++ {
			wantStored(t, s, in(n, entity), observer.Parked)
		}
	}
}

func testParkSameEvent(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for index := range 3 {
		wantStored(t, s, action(strict(1, "x"), index), observer.Queued)
	}
	for index := range 3 {
		wantStored(t, s, action(strict(2, "x"), index), observer.Parked)
	}
}

func testParkStates(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"))
	for n, state := range []observer.State{observer.Queued, observer.Scheduled, observer.Unknown} {
		d := strict(n+2, "x")
		d.State, d.RunAt = state, h.clock.Now().Add(time.Hour)
		wantStored(t, s, d, observer.Parked)
		wantDiff(t, "run at", d.RunAt, get(t, s, d.Key).RunAt)
	}
}

func testParkDead(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	for n, block := range []bool{true, false} {
		d := strict(n+3, "x")
		d.State, d.BlockWhenDead = observer.Dead, block
		wantStored(t, s, d, observer.Dead)
	}
}

func testParkSeparate(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	n := 0
	for _, o := range []string{"notify", "other", "Notify"} {
		for _, e := range [][2]string{{"Order", "1"}, {"Order", "2"}, {"Invoice", "1"}, {"Order/1", ""}, {"Order", "/1"}, {"", "Order/1"}} {
			d := strict(n, e[1])
			d.Event.EntityType, d.Observer, d.Key = e[0], o, d.Key+o
			n++
			wantStored(t, s, d, observer.Queued)
		}
	}
}

func testParkLeased(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), inEntityOrder(2, "y"))
	claimDue(t, s, "a", 2)
	wantStored(t, s, strict(3, "x"), observer.Parked)
	wantStored(t, s, inEntityOrder(4, "y"), observer.Parked)
	h.clock.advance(lease)
	wantStored(t, s, strict(5, "x"), observer.Parked)
	wantStored(t, s, inEntityOrder(6, "y"), observer.Parked)
}

// testParkMixed: somebody changed the order of an observer.
func testParkMixed(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantStored(t, s, strict(1, "x"), observer.Queued)
	wantStored(t, s, inEntityOrder(2, "x"), observer.Parked)
	none := strict(3, "x")
	none.Order = observer.OrderNone
	wantStored(t, s, none, observer.Queued)
	finish(t, s, delivery(1).Key)
	wantState(t, "free", s, delivery(2), observer.Queued)
	fail(t, s, delivery(2).Key, observer.Scheduled)
	wantStored(t, s, strict(4, "x"), observer.Queued) // retries of 2 keep nobody waiting
}

func testBlocked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := strict(1, "x")
	check := func(what string, eventID string, want bool) {
		t.Helper()
		got, err := s.Blocked(t.Context(), d.Lane(), eventID)
		if err != nil {
			t.Fatal(err)
		}
		wantDiff(t, what, want, got)
	}
	check("an empty lane", "another", false)
	insert(t, s, d, action(strict(1, "x"), 1))
	check("by another event", "another", true)
	check("by deliveries of the event itself", d.Event.ID, false)
	claim(t, s, d.Key, "a")
	check("by a running one", "another", true)
	insert(t, s, strict(2, "x"))
	check("by a later event", d.Event.ID, true)
	none, err := s.Blocked(t.Context(), "", "another")
	if err != nil || none {
		t.Errorf("no lane: got %v and error %v, want false", none, err)
	}
	finishHeld(t, s, d.Key, "a")
	finish(t, s, action(strict(1, "x"), 1).Key)
	finish(t, s, delivery(2).Key)
	check("when all are done", "another", false)
}

func testParkedNotDue(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	fail(t, s, delivery(1).Key, observer.Scheduled)
	wantDiff(t, "next due", h.clock.Now().Add(time.Hour), nextDue(t, s))
	wantDiff(t, "due", keysOf(), keys(claimDue(t, s, "a", 10)))
}

func testParkedClaimed(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "x"))
	wantDiff(t, "claimed from", observer.Parked, claim(t, s, delivery(2).Key, "person").ClaimedFrom)
	wantDiff(t, "next due", false, nextDue(t, s).After(h.clock.Now()))
	finishHeld(t, s, delivery(2).Key, "person")
	wantState(t, "the first is not done", s, delivery(3), observer.Parked)
	finish(t, s, delivery(1).Key)
	wantState(t, "the first is done", s, delivery(3), observer.Queued)
}

func testParkedPutBack(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "x"))
	update(t, s, claimOf(t, s, delivery(2).Key, "person"), "person")
	wantState(t, "put back", s, delivery(2), observer.Parked)
	finish(t, s, delivery(1).Key)
	wantState(t, "the first is done", s, delivery(2), observer.Queued)
	wantState(t, "the first is done", s, delivery(3), observer.Parked)
}

// testParkedPutBackFree: its lane went free while a person held it, and nothing
// will come that could release it later.
func testParkedPutBackFree(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	d := claimOf(t, s, delivery(2).Key, "person")
	finish(t, s, delivery(1).Key)
	d.State = observer.Parked
	update(t, s, d, "person")
	wantState(t, "put back", s, d, observer.Queued)
	wantDiff(t, "due", keysOf(d), keys(claimDue(t, s, "a", 10)))
}
