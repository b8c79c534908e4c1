package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func releaseTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"release/when what blocked no longer does":     testRelease,
		"release/not while it still blocks":            testReleaseNot,
		"release/by removing":                          testReleaseRemove,
		"release/all actions of the next event":        testReleaseActions,
		"release/not before all actions are done":      testReleaseAfterActions,
		"release/one event after the other":            testReleaseInTurn,
		"release/due now or at their own later time":   testReleaseTime,
		"release/further when the next keeps nobody":   testReleaseFurther,
		"release/nothing in other lanes":               testReleaseOtherLanes,
		"release/a parked one that is removed":         testReleaseParkedRemoved,
		"release/seen by other claims at once":         testReleaseClaimed,
		"release/strict: nothing overtakes a retry":    testReleaseStrictRetry,
		"release/entity: the first attempt releases":   testReleaseEntityRetry,
		"release/what ran out of time is not released": testReleaseCrash,
		"release/by an update that leaves the lane":    testReleaseLeft,
		"release/after one that came into the lane":    testReleaseCome,
	}
}

func testRelease(t *testing.T, h *harness) {
	for name, test := range map[string]struct {
		order observer.Order
		state observer.State
	}{
		"strict, done":      {observer.OrderStrict, observer.Done},
		"strict, dropped":   {observer.OrderStrict, observer.Dropped},
		"strict, dead":      {observer.OrderStrict, observer.Dead},
		"entity, done":      {observer.OrderEntity, observer.Done},
		"entity, dropped":   {observer.OrderEntity, observer.Dropped},
		"entity, dead":      {observer.OrderEntity, observer.Dead},
		"entity, scheduled": {observer.OrderEntity, observer.Scheduled},
		"entity, unknown":   {observer.OrderEntity, observer.Unknown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := h.store(t, Options{})
			for n := range 3 {
				d := strict(n, "x")
				d.Order = test.order
				insert(t, s, d)
			}
			fail(t, s, delivery(0).Key, test.state)
			wantState(t, name, s, delivery(1), observer.Queued)
			wantState(t, name, s, delivery(2), observer.Parked)
		})
	}
}

func testReleaseNot(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	blocking := strict(1, "x")
	blocking.BlockWhenDead = true
	insert(t, s, blocking, strict(2, "x"))
	for _, state := range []observer.State{observer.Scheduled, observer.Unknown, observer.Queued, observer.Dead} {
		fail(t, s, blocking.Key, state)
		wantState(t, "behind one that is "+string(state), s, delivery(2), observer.Parked)
	}
	finish(t, s, blocking.Key) // a redrive at once
	wantState(t, "behind one that is done", s, delivery(2), observer.Queued)
}

func testReleaseRemove(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	blocking := strict(1, "x")
	blocking.State, blocking.BlockWhenDead = observer.Dead, true
	insert(t, s, blocking, strict(2, "x"), strict(3, "x"))
	wantState(t, "behind a dead letter", s, delivery(2), observer.Parked)
	remove(t, s, blocking.Key)
	wantState(t, "after its removal", s, delivery(2), observer.Queued)
	remove(t, s, delivery(2).Key)
	wantState(t, "after the next removal", s, delivery(3), observer.Queued)
}

func testReleaseActions(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), action(strict(2, "x"), 1), strict(3, "x"), action(strict(2, "x"), 2))
	finish(t, s, delivery(1).Key)
	wantStates(t, "after the first", s, map[string]observer.State{
		delivery(1).Key: observer.Done, delivery(2).Key: observer.Queued, action(delivery(2), 1).Key: observer.Queued,
		action(delivery(2), 2).Key: observer.Queued, delivery(3).Key: observer.Parked,
	})
}

func testReleaseAfterActions(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), action(strict(1, "x"), 1), strict(2, "x"))
	finish(t, s, delivery(1).Key)
	wantState(t, "one action is done", s, delivery(2), observer.Parked)
	finish(t, s, action(delivery(1), 1).Key)
	wantState(t, "both are done", s, delivery(2), observer.Queued)
}

func testReleaseInTurn(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	const n = 20
	for i := range n {
		insert(t, s, strict((i*7)%n, "x")) // keys are not in the order of insertion
		h.clock.advance(time.Millisecond)
	}
	for i := range n {
		due := claimDue(t, s, "a", n)
		wantDiff(t, "due", keysOf(delivery((i*7)%n)), keys(due))
		due[0].Succeed()
		update(t, s, due[0], "a")
	}
	wantDiff(t, "states", map[observer.State]int{observer.Done: n}, stats(t, s).States)
}

func testReleaseTime(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	later, earlier := action(strict(2, "x"), 1), action(strict(2, "x"), 2)
	later.RunAt, earlier.RunAt = now.Add(time.Hour), now.Add(time.Second)
	insert(t, s, strict(1, "x"), strict(2, "x"), later, earlier)
	h.clock.advance(time.Minute)
	finish(t, s, delivery(1).Key)
	for d, want := range map[*observer.Delivery]time.Time{
		delivery(2): now.Add(time.Minute), earlier: now.Add(time.Minute), later: now.Add(time.Hour),
	} {
		wantState(t, "released", s, d, observer.Queued)
		wantDiff(t, "run at of "+d.Key, want, get(t, s, d.Key).RunAt)
	}
	wantDiff(t, "due", keysOf(delivery(2), earlier), sortedKeys(claimDue(t, s, "a", 10)))
}

// testReleaseFurther: a redriven dead letter that was tried before keeps nobody
// waiting, so what is parked behind it goes with it. Nothing would release it
// later.
func testReleaseFurther(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, inEntityOrder(1, "x"))
	fail(t, s, delivery(1).Key, observer.Dead)
	wantStored(t, s, inEntityOrder(2, "x"), observer.Queued)
	wantDiff(t, "redriven", observer.Parked, requeue(t, s, delivery(1).Key, h.clock.Now()))
	wantStored(t, s, inEntityOrder(3, "x"), observer.Parked)
	wantStored(t, s, inEntityOrder(4, "x"), observer.Parked)
	finish(t, s, delivery(2).Key)
	wantStates(t, "released", s, map[string]observer.State{
		delivery(1).Key: observer.Queued, delivery(2).Key: observer.Done,
		delivery(3).Key: observer.Queued, delivery(4).Key: observer.Parked,
	})
}

func testReleaseOtherLanes(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "y"), strict(4, "y"))
	finish(t, s, delivery(1).Key)
	wantState(t, "the lane", s, delivery(2), observer.Queued)
	wantState(t, "another lane", s, delivery(4), observer.Parked)
}

func testReleaseParkedRemoved(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "x"))
	remove(t, s, delivery(2).Key)
	wantState(t, "the first is unfinished", s, delivery(3), observer.Parked)
	finish(t, s, delivery(1).Key)
	wantState(t, "the first is done", s, delivery(3), observer.Queued)
}

func testReleaseClaimed(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	wantDiff(t, "due", keysOf(delivery(1)), keys(claimDue(t, s, "a", 10)))
	finishHeld(t, s, delivery(1).Key, "a")
	wantDiff(t, "next due", false, nextDue(t, s).After(h.clock.Now()))
	wantDiff(t, "due", keysOf(delivery(2)), keys(claimDue(t, s, "b", 10)))
}

func testReleaseStrictRetry(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	for range 3 {
		wantDiff(t, "due", keysOf(delivery(1)), keys(claimDue(t, s, "a", 10)))
		d := get(t, s, delivery(1).Key)
		d.State, d.RunAt = observer.Scheduled, h.clock.Now().Add(time.Minute)
		update(t, s, d, "a")
		wantDiff(t, "due before the retry", keysOf(), keys(claimDue(t, s, "a", 10)))
		h.clock.advance(time.Minute)
	}
	finish(t, s, delivery(1).Key)
	wantDiff(t, "due when it is done", keysOf(delivery(2)), keys(claimDue(t, s, "a", 10)))
}

func testReleaseEntityRetry(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, inEntityOrder(1, "x"), inEntityOrder(2, "x"), inEntityOrder(3, "x"))
	wantDiff(t, "due", keysOf(delivery(1)), keys(claimDue(t, s, "a", 10)))
	wantState(t, "during the first attempt", s, delivery(2), observer.Parked)
	d := get(t, s, delivery(1).Key)
	d.State, d.RunAt = observer.Scheduled, h.clock.Now().Add(time.Hour)
	d.Attempts = []observer.Attempt{{Number: 1, Error: "status 503"}}
	update(t, s, d, "a")
	wantDiff(t, "due", keysOf(delivery(2)), keys(claimDue(t, s, "a", 10)))
	wantState(t, "during the next first attempt", s, delivery(3), observer.Parked)
}

func testReleaseCrash(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), inEntityOrder(3, "y"), inEntityOrder(4, "y"))
	claimDue(t, s, "a", 10)
	h.clock.advance(lease)
	prune(t, s, observer.Retention{}, 10)
	wantState(t, "strict", s, delivery(2), observer.Parked)
	wantState(t, "entity", s, delivery(4), observer.Parked)
	wantDiff(t, "due", keysOf(delivery(1), delivery(3)), sortedKeys(claimDue(t, s, "b", 10)))
}

// testReleaseLeft: somebody changed the order of an observer.
func testReleaseLeft(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	d := claim(t, s, delivery(1).Key, "a")
	d.Order, d.State, d.RunAt = observer.OrderNone, observer.Scheduled, h.clock.Now().Add(time.Hour)
	update(t, s, d, "a")
	wantState(t, "it left", s, delivery(1), observer.Scheduled)
	wantState(t, "behind it", s, delivery(2), observer.Queued)
}

func testReleaseCome(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := strict(1, "x")
	d.Order = observer.OrderNone
	insert(t, s, d)
	d = claim(t, s, d.Key, "a")
	d.Order, d.State, d.RunAt = observer.OrderStrict, observer.Scheduled, h.clock.Now().Add(time.Hour)
	update(t, s, d, "a")
	wantStored(t, s, strict(2, "x"), observer.Parked)
	finish(t, s, d.Key)
	wantState(t, "behind it", s, delivery(2), observer.Queued)
}
