package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func lostTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"lost/counted exactly over crashes":         testLost,
		"lost/a stored outcome ends the count":      testLostUpdated,
		"lost/the delivery is where it was":         testLostState,
		"lost/not by a holder who claims again":     testLostAgain,
		"lost/not by a lease that was extended":     testLostExtended,
		"lost/requeued: still an attempt":           testLostRequeued,
		"lost/the holder may not come back":         testLostHolder,
		"lost/parked, and its lane goes on, queued": testLostParked,
	}
}

// testLost lets claims of either kind end without an outcome.
func testLost(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()))
	var lostAt time.Time
	for crashes := range 5 {
		at := h.clock.Now()
		var d *observer.Delivery
		if crashes%2 == 0 {
			d = claimDue(t, s, "a", 1)[0]
		} else {
			d = claim(t, s, delivery(1).Key, "b")
		}
		wantDiff(t, "lost", crashes, d.Lost)
		wantDiff(t, "lost at", lostAt, d.LostAt)
		wantDiff(t, "claimed at", at, d.ClaimedAt)
		got := get(t, s, d.Key)
		wantDiff(t, "lost, as read", crashes, got.Lost)
		wantDiff(t, "lost at, as read", lostAt, got.LostAt)
		lostAt = at
		h.clock.advance(lease + time.Second)
	}
}

func testLostUpdated(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()))
	for range 2 {
		claim(t, s, delivery(1).Key, "a")
		h.clock.advance(lease)
	}
	d := claim(t, s, delivery(1).Key, "b")
	wantDiff(t, "lost", 2, d.Lost)
	d.State = observer.Queued
	update(t, s, d, "b")
	wantDiff(t, "lost, as read", 0, get(t, s, d.Key).Lost)
	d = claim(t, s, d.Key, "c")
	wantDiff(t, "lost after an outcome", 0, d.Lost)
	wantDiff(t, "lost at after an outcome", time.Time{}, d.LostAt)
	at := h.clock.Now()
	h.clock.advance(lease)
	d = claim(t, s, d.Key, "d")
	wantDiff(t, "lost after another crash", 1, d.Lost)
	wantDiff(t, "lost at after another crash", at, d.LostAt)
}

func testLostState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	unknown := scheduled(3, h.clock.Now())
	unknown.State = observer.Unknown
	want := map[string]observer.State{}
	all := []*observer.Delivery{
		queued(1, h.clock.Now()), scheduled(2, h.clock.Now()), unknown, dead(4), strict(5, "x"), strict(6, "x"),
	}
	insert(t, s, all...)
	for _, d := range all {
		want[d.Key] = d.State
		claim(t, s, d.Key, "a")
	}
	h.clock.advance(lease)
	wantStates(t, "after the crash", s, want)
	wantDiff(t, "due", keysOf(all[0], all[1], all[2], all[4]), sortedKeys(claimDue(t, s, "b", 10)))
}

func testLostAgain(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()))
	claim(t, s, delivery(1).Key, "a")
	h.clock.advance(time.Second)
	wantDiff(t, "lost", 0, claim(t, s, delivery(1).Key, "a").Lost)
	h.clock.advance(lease)
	wantDiff(t, "lost when its lease was over", 1, claim(t, s, delivery(1).Key, "a").Lost)
}

func testLostExtended(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()))
	at := h.clock.Now()
	claim(t, s, delivery(1).Key, "a")
	for range 3 {
		h.clock.advance(lease / 2)
		if err := s.ExtendLease(t.Context(), delivery(1).Key, "a", lease); err != nil {
			t.Fatal(err)
		}
	}
	got := get(t, s, delivery(1).Key)
	wantDiff(t, "claimed at", at, got.ClaimedAt)
	wantDiff(t, "lost", 0, got.Lost)
	h.clock.advance(lease)
	got = claim(t, s, delivery(1).Key, "b")
	wantDiff(t, "lost when it is over", 1, got.Lost)
	wantDiff(t, "lost at", at, got.LostAt)
}

func testLostRequeued(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	claim(t, s, dead(1).Key, "a")
	h.clock.advance(lease)
	requeue(t, s, dead(1).Key, h.clock.Now())
	wantDiff(t, "lost", 1, claimDue(t, s, "b", 1)[0].Lost)
}

func testLostHolder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, queued(1, h.clock.Now()))
	d := claim(t, s, delivery(1).Key, "a")
	h.clock.advance(lease)
	d.Succeed()
	wantError(t, "update too late", s.UpdateDelivery(t.Context(), d, "a"), observer.ErrBusy)
	wantError(t, "extend too late", s.ExtendLease(t.Context(), d.Key, "a", lease), observer.ErrBusy)
	wantDiff(t, "state", observer.Queued, get(t, s, d.Key).State)
}

// testLostParked: a person ran what was parked, and died. The delivery must not
// be forgotten when its lane goes free meanwhile.
func testLostParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"), strict(2, "x"), strict(3, "x"))
	claim(t, s, delivery(2).Key, "person")
	finish(t, s, delivery(1).Key)
	wantDiff(t, "state while it runs", observer.Running, get(t, s, delivery(2).Key).State)
	h.clock.advance(lease)
	due := claimDue(t, s, "a", 10)
	wantDiff(t, "due", keysOf(delivery(2)), keys(due))
	wantDiff(t, "lost", 1, due[0].Lost)
}
