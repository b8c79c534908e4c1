package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func batchTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"batch/of nothing":                         testBatchEmpty,
		"batch/skips what is there":                testBatchSkips,
		"batch/skips what it has twice":            testBatchTwice,
		"batch/in its order":                       testBatchOrder,
		"batch/of a thousand":                      testBatchLarge,
		"batch/all or none when one is not valid":  testBatchInvalid,
		"batch/all or none when the store is full": testBatchFull,
		"batch/parks what is behind others of it":  testBatchParks,
		"batch/what it skips is left alone":        testBatchSkippedState,
	}
}

func testBatchEmpty(t *testing.T, h *harness) {
	s := h.store(t, Options{MaxDead: 1})
	wantDiff(t, "stored", 0, insert(t, s))
	insert(t, s, dead(1))
	wantDiff(t, "stored when full", 0, insert(t, s))
}

func testBatchSkips(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(2, h.clock.Now()), dead(4))
	wantDiff(t, "stored", 2, insert(t, s, dead(1), dead(2), dead(3), queued(4, h.clock.Now())))
	wantStates(t, "states", s, map[string]observer.State{
		delivery(1).Key: observer.Dead, delivery(2).Key: observer.Queued, delivery(3).Key: observer.Dead, delivery(4).Key: observer.Dead,
	})
	wantDiff(t, "stored again", 0, insert(t, s, dead(1), dead(2), dead(3), dead(4)))
}

func testBatchTwice(t *testing.T, h *harness) {
	s := h.store(t, Options{MaxDead: 2})
	first, second := dead(1), dead(1)
	first.Error = "first"
	wantDiff(t, "stored", 2, insert(t, s, first, second, dead(2), first))
	wantDiff(t, "the one that is stored", "first", get(t, s, first.Key).Error)
	wantDiff(t, "dead", 2, stats(t, s).States[observer.Dead])
}

// testBatchOrder: the order shows when the lane goes on.
func testBatchOrder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	order := []int{4, 9, 1, 7, 3}
	var ds []*observer.Delivery
	for _, n := range order {
		ds = append(ds, strict(n, "x"))
	}
	wantDiff(t, "stored", len(order), insert(t, s, ds...))
	for _, n := range order {
		due := claimDue(t, s, "a", 10)
		wantDiff(t, "due", keysOf(delivery(n)), keys(due))
		due[0].Succeed()
		update(t, s, due[0], "a")
	}
}

func testBatchLarge(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	var ds []*observer.Delivery
	for n := range 1000 {
		d := everyField()
		d.Key, d.State, d.Order = delivery(n).Key, observer.Queued, observer.OrderNone
		ds = append(ds, d)
	}
	insert(t, s, ds[400])
	wantDiff(t, "stored", 999, insert(t, s, ds...))
	wantDiff(t, "queued", 1000, stats(t, s).States[observer.Queued])
	if diff := diffDeliveries(ds[999], get(t, s, ds[999].Key)); diff != "" {
		t.Errorf("the last one (-want +got):\n%s", diff)
	}
}

func testBatchInvalid(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	begun := delivery(3)
	begun.State = observer.Running
	stored, err := s.InsertDeliveries(t.Context(), dead(1), queued(2, h.clock.Now()), begun)
	if err == nil || stored != 0 {
		t.Errorf("stored %d and got error %v, want none and an error", stored, err)
	}
	wantStates(t, "stored", s, map[string]observer.State{})
}

func testBatchFull(t *testing.T, h *harness) {
	s := h.store(t, Options{MaxDead: 3})
	insert(t, s, dead(1), dead(2))
	before, behind := strict(5, "x"), strict(6, "x")
	stored, err := s.InsertDeliveries(t.Context(), before, behind, dead(3), dead(4))
	wantError(t, "insert", err, observer.ErrFull)
	wantDiff(t, "stored", 0, stored)
	wantDiff(t, "state of one that would have been parked", observer.Queued, behind.State)
	wantDiff(t, "stored", keysOf(dead(1), dead(2)), list(t, s, observer.DeliveryFilter{}))
	wantDiff(t, "as many as there is room for, and known ones", 3, insert(t, s, dead(1), before, behind, dead(2), dead(3)))
	wantError(t, "insert", insertError(t, s, dead(4)), observer.ErrFull)
}

func testBatchParks(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	first, second, third := strict(1, "x"), scheduled(2, now.Add(time.Hour)), strict(3, "x")
	second.Event.EntityID, second.Order = "x", observer.OrderStrict
	buried := strict(4, "x")
	buried.State = observer.Dead
	other := strict(5, "y")
	insert(t, s, first, second, third, buried, other)
	for d, want := range map[*observer.Delivery]observer.State{
		first: observer.Queued, second: observer.Parked, third: observer.Parked, buried: observer.Dead, other: observer.Queued,
	} {
		wantDiff(t, "state of "+d.Key, want, d.State)
		wantDiff(t, "stored state of "+d.Key, want, get(t, s, d.Key).State)
	}
}

func testBatchSkippedState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"))
	again := strict(2, "x")
	wantDiff(t, "stored", 0, insert(t, s, again))
	wantDiff(t, "stored state", observer.Parked, get(t, s, again.Key).State)
}
