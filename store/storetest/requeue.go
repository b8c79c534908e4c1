package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func requeueTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"requeue/from each state":                         testRequeue,
		"requeue/not from other states":                   testRequeueNot,
		"requeue/not what is leased":                      testRequeueLeased,
		"requeue/at a time":                               testRequeueTime,
		"requeue/parked behind what is on its way":        testRequeueParked,
		"requeue/a retry is on its way already":           testRequeueRetry,
		"requeue/not behind what is parked behind it":     testRequeueBlocking,
		"requeue/keeps its place in the lane":             testRequeuePlace,
		"requeue/two dead letters that block, last first": testRequeueTwoBlocking,
	}
}

func testRequeue(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	unknown := scheduled(3, h.clock.Now().Add(time.Hour))
	unknown.State = observer.Unknown
	insert(t, s, dead(1), scheduled(2, h.clock.Now().Add(time.Hour)), unknown)
	h.clock.advance(time.Second)
	for n, redrives := range map[int]int{1: 1, 2: 0, 3: 0} {
		key := delivery(n).Key
		before := get(t, s, key)
		wantDiff(t, "new state", observer.Queued, requeue(t, s, key, h.clock.Now()))
		got := get(t, s, key)
		wantDiff(t, "state", observer.Queued, got.State)
		wantDiff(t, "redrives", redrives, got.Redrives)
		wantDiff(t, "run at", h.clock.Now(), got.RunAt)
		wantDiff(t, "created at", before.CreatedAt, got.CreatedAt)
		wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
	}
	wantDiff(t, "due", keysOf(delivery(1), delivery(2), delivery(3)), sortedKeys(claimDue(t, s, "a", 10)))
	again := get(t, s, dead(1).Key)
	again.Bury(observer.ErrFull)
	update(t, s, again, "a")
	requeue(t, s, again.Key, h.clock.Now())
	wantDiff(t, "redrives the second time", 2, get(t, s, again.Key).Redrives)
}

func testRequeueNot(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()), strict(2, "x"), strict(3, "x"), queued(4, h.clock.Now()), queued(5, h.clock.Now()))
	finish(t, s, delivery(4).Key)
	fail(t, s, delivery(5).Key, observer.Dropped)
	for _, key := range []string{"nothing", delivery(1).Key, delivery(3).Key, delivery(4).Key, delivery(5).Key} {
		_, err := s.RequeueDelivery(t.Context(), key, h.clock.Now())
		wantError(t, "requeue "+key, err, observer.ErrNotFound)
	}
	wantStates(t, "states", s, map[string]observer.State{
		delivery(1).Key: observer.Queued, delivery(2).Key: observer.Queued, delivery(3).Key: observer.Parked,
		delivery(4).Key: observer.Done, delivery(5).Key: observer.Dropped,
	})
}

func testRequeueLeased(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), scheduled(2, h.clock.Now()))
	begin(t, s, delivery(3), "a")
	claim(t, s, delivery(1).Key, "a")
	claim(t, s, delivery(2).Key, "a")
	for n := 1; n <= 3; n++ {
		_, err := s.RequeueDelivery(t.Context(), delivery(n).Key, h.clock.Now())
		wantError(t, "requeue what is leased", err, observer.ErrBusy)
		wantState(t, "leased", s, delivery(n), observer.Running)
	}
	h.clock.advance(lease)
	for n := 1; n <= 3; n++ {
		wantDiff(t, "state", observer.Queued, requeue(t, s, delivery(n).Key, h.clock.Now()))
	}
}

func testRequeueTime(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	at := h.clock.Now().Add(time.Hour)
	requeue(t, s, dead(1).Key, at)
	wantDiff(t, "next due", at, nextDue(t, s))
	wantDiff(t, "due", keysOf(), keys(claimDue(t, s, "a", 10)))
	h.clock.advance(time.Hour)
	wantDiff(t, "due", keysOf(dead(1)), keys(claimDue(t, s, "a", 10)))
}

func testRequeueParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"))
	fail(t, s, delivery(1).Key, observer.Dead) // and the lane goes on
	insert(t, s, strict(2, "x"), strict(3, "x"))
	claimDue(t, s, "a", 10)
	at := h.clock.Now().Add(time.Hour)
	wantDiff(t, "new state", observer.Parked, requeue(t, s, delivery(1).Key, at))
	got := get(t, s, delivery(1).Key)
	wantDiff(t, "state", observer.Parked, got.State)
	wantDiff(t, "redrives", 1, got.Redrives)
	finishHeld(t, s, delivery(2).Key, "a")
	wantState(t, "the one on its way is done", s, delivery(1), observer.Queued)
	wantState(t, "it has its old place", s, delivery(3), observer.Parked)
	wantDiff(t, "run at", at, get(t, s, delivery(1).Key).RunAt)
	h.clock.advance(time.Hour)
	finish(t, s, delivery(1).Key)
	wantState(t, "all before it are done", s, delivery(3), observer.Queued)
}

// testRequeueRetry: a Scheduled or Unknown delivery is never parked. A person who
// does not wait for its time does not send it behind others.
func testRequeueRetry(t *testing.T, h *harness) {
	for _, state := range []observer.State{observer.Scheduled, observer.Unknown} {
		s := h.store(t, Options{})
		insert(t, s, inEntityOrder(1, "x"))
		fail(t, s, delivery(1).Key, state)
		insert(t, s, inEntityOrder(2, "x"))
		wantDiff(t, "in the order of first attempts", observer.Queued, requeue(t, s, delivery(1).Key, h.clock.Now()))

		insert(t, s, strict(11, "y"))
		fail(t, s, delivery(11).Key, observer.Dead)
		insert(t, s, strict(12, "y"))
		fail(t, s, delivery(12).Key, state)
		wantDiff(t, "redrive", observer.Parked, requeue(t, s, delivery(11).Key, h.clock.Now()))
		wantDiff(t, "in strict order", observer.Queued, requeue(t, s, delivery(12).Key, h.clock.Now()))
		finish(t, s, delivery(12).Key)
		wantState(t, "then the redrive", s, delivery(11), observer.Queued)
	}
}

func testRequeueBlocking(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	blocking := strict(1, "x")
	blocking.BlockWhenDead = true
	insert(t, s, blocking, action(strict(1, "x"), 1), strict(2, "x"))
	fail(t, s, blocking.Key, observer.Dead)
	wantDiff(t, "new state", observer.Queued, requeue(t, s, blocking.Key, h.clock.Now()))
	finish(t, s, blocking.Key)
	wantState(t, "another action is unfinished", s, delivery(2), observer.Parked)
	finish(t, s, action(delivery(1), 1).Key)
	wantState(t, "all are done", s, delivery(2), observer.Queued)
}

// testRequeuePlace redrives dead letters in disorder: they leave in order.
func testRequeuePlace(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n := 1; n <= 5; n++ {
		insert(t, s, strict(n, "x"))
		fail(t, s, delivery(n).Key, observer.Dead)
	}
	insert(t, s, strict(6, "x"), strict(7, "x"))
	for _, n := range []int{4, 1, 5, 2, 3} {
		wantDiff(t, "redriven", observer.Parked, requeue(t, s, delivery(n).Key, h.clock.Now()))
	}
	for _, n := range []int{6, 1, 2, 3, 4, 5, 7} { // 6 was on its way
		due := claimDue(t, s, "a", 10)
		wantDiff(t, "due", keysOf(delivery(n)), keys(due))
		finishHeld(t, s, delivery(n).Key, "a")
	}
}

// testRequeueTwoBlocking: the later one is no reason to keep the earlier one
// waiting for ever.
func testRequeueTwoBlocking(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	first, second := strict(1, "x"), strict(2, "x")
	first.BlockWhenDead, second.BlockWhenDead = true, true
	first.State, second.State = observer.Dead, observer.Dead
	insert(t, s, first, second, strict(3, "x"))
	wantDiff(t, "the first", observer.Parked, requeue(t, s, first.Key, h.clock.Now()))
	wantDiff(t, "the second", observer.Parked, requeue(t, s, second.Key, h.clock.Now()))
	for n := 1; n <= 3; n++ {
		due := claimDue(t, s, "a", 10)
		wantDiff(t, "due", keysOf(delivery(n)), keys(due))
		finishHeld(t, s, delivery(n).Key, "a")
	}
}
