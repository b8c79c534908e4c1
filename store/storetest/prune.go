package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func pruneTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"prune/what is finished and old":       testPrune,
		"prune/nothing without a time":         testPruneNothing,
		"prune/nothing that is unfinished":     testPruneUnfinished,
		"prune/up to a limit, dead ones last":  testPruneLimit,
		"prune/not dead ones that block":       testPruneBlocking,
		"prune/not dead ones being run":        testPruneLeased,
		"prune/counts from the last update":    testPruneUpdated,
		"prune/what is gone may be stored":     testPruneAgain,
		"prune/dropped ones count as done":     testPruneDropped,
		"prune/leaves what is parked in order": testPruneParked,
	}
}

func prune(t tester, s observer.StateStore, r observer.Retention, limit int) (removed int) {
	t.Helper()
	removed, err := s.PruneDeliveries(t.Context(), r, limit)
	if err != nil {
		t.Fatalf("prune: %v", err)
	}
	return removed
}

// finished stores 0 to 9, which ended a minute apart: odd ones are dead, others
// done.
func finished(t *testing.T, h *harness) (s observer.StateStore, start time.Time) {
	t.Helper()
	s, start = h.store(t, Options{}), h.clock.Now()
	for n := range 10 {
		insert(t, s, queued(n, start))
	}
	for n := range 10 {
		if n%2 == 1 {
			fail(t, s, delivery(n).Key, observer.Dead)
		} else {
			finish(t, s, delivery(n).Key)
		}
		h.clock.advance(time.Minute)
	}
	return s, start
}

func left(t *testing.T, s observer.StateStore) []string {
	t.Helper()
	return list(t, s, observer.DeliveryFilter{})
}

func testPrune(t *testing.T, h *harness) {
	s, start := finished(t, h)
	r := observer.Retention{DoneBefore: start.Add(6 * time.Minute), DeadBefore: start.Add(3 * time.Minute)}
	wantDiff(t, "removed", 4, prune(t, s, r, 100)) // 0, 2, 4 and 1: not 6 and 3, which ended just then
	wantDiff(t, "left", keysOf(delivery(3), delivery(5), delivery(6), delivery(7), delivery(8), delivery(9)), left(t, s))
	wantDiff(t, "removed again", 0, prune(t, s, r, 100))
}

func testPruneNothing(t *testing.T, h *harness) {
	s, _ := finished(t, h)
	end := h.clock.Now()
	wantDiff(t, "removed without times", 0, prune(t, s, observer.Retention{}, 100))
	wantDiff(t, "removed without a limit", 0, prune(t, s, observer.Retention{DoneBefore: end, DeadBefore: end}, 0))
	wantDiff(t, "removed dead", 5, prune(t, s, observer.Retention{DeadBefore: end}, 100))
	wantDiff(t, "states", map[observer.State]int{observer.Done: 5}, stats(t, s).States)
	wantDiff(t, "removed done", 5, prune(t, s, observer.Retention{DoneBefore: end}, 100))
}

func testPruneUnfinished(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	unknown := scheduled(3, h.clock.Now())
	unknown.State = observer.Unknown
	insert(t, s, queued(1, h.clock.Now()), scheduled(2, h.clock.Now()), unknown, strict(4, "x"), strict(5, "x"))
	begin(t, s, delivery(6), "a")
	claim(t, s, delivery(1).Key, "a")
	end := h.clock.Now().Add(time.Hour)
	wantDiff(t, "removed", 0, prune(t, s, observer.Retention{DoneBefore: end, DeadBefore: end}, 100))
	wantDiff(t, "left", 6, len(left(t, s)))
}

func testPruneLimit(t *testing.T, h *harness) {
	s, _ := finished(t, h)
	r := observer.Retention{DoneBefore: h.clock.Now(), DeadBefore: h.clock.Now()}
	for _, step := range []struct{ limit, removed, done, dead int }{
		{2, 2, 3, 5}, {2, 2, 1, 5}, {3, 3, 0, 3}, {2, 2, 0, 1}, {2, 1, 0, 0}, {2, 0, 0, 0},
	} {
		wantDiff(t, "removed", step.removed, prune(t, s, r, step.limit))
		st := stats(t, s).States
		wantDiff(t, "done and dead left", []int{step.done, step.dead}, []int{st[observer.Done], st[observer.Dead]})
	}
}

func testPruneBlocking(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	blocking, other, entity := strict(1, "x"), strict(2, "y"), strict(3, "z")
	blocking.BlockWhenDead, entity.BlockWhenDead = true, true
	blocking.State, other.State, entity.State = observer.Dead, observer.Dead, observer.Dead
	entity.Order = observer.OrderEntity
	insert(t, s, blocking, other, entity, strict(4, "x"))
	h.clock.advance(time.Hour)
	r := observer.Retention{DoneBefore: h.clock.Now(), DeadBefore: h.clock.Now()}
	wantDiff(t, "removed", 2, prune(t, s, r, 100))
	wantDiff(t, "left", keysOf(blocking, delivery(4)), left(t, s))
	wantState(t, "behind it", s, delivery(4), observer.Parked)
}

func testPruneLeased(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), dead(2))
	h.clock.advance(time.Hour)
	claim(t, s, dead(1).Key, "a")
	wantDiff(t, "removed", 1, prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 100))
	wantDiff(t, "left", keysOf(dead(1)), left(t, s))
	h.clock.advance(lease)
	wantDiff(t, "removed after the lease", 1, prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 100))
}

func testPruneUpdated(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	h.clock.advance(time.Hour)
	fail(t, s, dead(1).Key, observer.Dead) // a redrive in vain
	wantDiff(t, "removed", 0, prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 100))
	wantDiff(t, "left", keysOf(dead(1)), left(t, s))
}

func testPruneAgain(t *testing.T, h *harness) {
	s, _ := finished(t, h)
	prune(t, s, observer.Retention{DoneBefore: h.clock.Now()}, 100)
	wantDiff(t, "stored", 1, insert(t, s, queued(2, h.clock.Now())))
	wantDiff(t, "begun", true, begin(t, s, delivery(4), "a"))
}

func testPruneDropped(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()), dead(2))
	fail(t, s, delivery(1).Key, observer.Dropped)
	h.clock.advance(time.Hour)
	wantDiff(t, "removed for dead ones", 1, prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 100))
	wantDiff(t, "left", keysOf(delivery(1)), left(t, s))
	wantDiff(t, "removed for done ones", 1, prune(t, s, observer.Retention{DoneBefore: h.clock.Now()}, 100))
}

func testPruneParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "x"))
	finish(t, s, delivery(1).Key)
	h.clock.advance(time.Hour)
	wantDiff(t, "removed", 1, prune(t, s, observer.Retention{DoneBefore: h.clock.Now()}, 100))
	wantStates(t, "left", s, map[string]observer.State{delivery(2).Key: observer.Queued, delivery(3).Key: observer.Parked})
}

// Stranded checks that pruning queues parked deliveries whose lane nothing
// blocks any more. Only a change made behind the store's back leaves such, so
// each adapter calls it with its own remove, which deletes the row of key and
// tells s nothing. s is empty.
func Stranded(t *testing.T, s observer.StateStore, remove func(key string)) {
	t.Helper()
	insert(t, s, strict(1, "x"), strict(2, "x"), action(strict(2, "x"), 1), strict(3, "x"))
	insert(t, s, strict(4, "y"), strict(5, "y"), inEntityOrder(6, "z"), inEntityOrder(7, "z"))
	remove(delivery(1).Key)
	remove(delivery(6).Key)
	wantDiff(t, "removed", 0, prune(t, s, observer.Retention{}, 1))
	wantStates(t, "after pruning", s, map[string]observer.State{
		delivery(2).Key: observer.Queued, action(delivery(2), 1).Key: observer.Queued, delivery(3).Key: observer.Parked,
		delivery(4).Key: observer.Queued, delivery(5).Key: observer.Parked, delivery(7).Key: observer.Queued,
	})
	wantDiff(t, "due", keysOf(delivery(2), action(delivery(2), 1), delivery(4), delivery(7)), sortedKeys(claimDue(t, s, "a", 10)))
}
