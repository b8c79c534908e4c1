package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func dueTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"due/the longest due first":           testDueOrder,
		"due/only what is due and free":       testDueOnly,
		"due/a lease that ended is due again": testDueAgain,
		"due/without a time is due now":       testDueWithoutTime,
		"due/gives every field":               testDueFields,
		"next due/nothing":                    testNextDueNothing,
		"next due/of what nobody runs":        testNextDue,
		"next due/the end of a lease":         testNextDueLease,
	}
}

func claimDue(t tester, s observer.StateStore, owner string, limit int) []*observer.Delivery {
	t.Helper()
	return claimRoom(t, s, owner, limit, nil)
}

func claimRoom(t tester, s observer.StateStore, owner string, limit int, room observer.Room) []*observer.Delivery {
	t.Helper()
	ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: owner, Lease: lease, Limit: limit, Room: room})
	if err != nil {
		t.Fatalf("claim due: %v", err)
	}
	return ds
}

func testDueOrder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	for n, before := range []int{3, 9, 1, 7, 5} {
		insert(t, s, scheduled(n, now.Add(-time.Duration(before)*time.Second)))
	}
	for _, limit := range []int{0, -1} {
		wantDiff(t, "limit 0 or less", keysOf(), keys(claimDue(t, s, "a", limit)))
	}
	first := claimDue(t, s, "a", 2)
	wantDiff(t, "first two", keysOf(delivery(1), delivery(3)), keys(first))
	for _, d := range first {
		wantDiff(t, "owner", "a", d.LeaseOwner)
		wantDiff(t, "until", now.Add(lease), d.LeaseUntil)
		wantDiff(t, "owner as stored", "a", get(t, s, d.Key).LeaseOwner)
	}
	wantDiff(t, "the rest", keysOf(delivery(4), delivery(0), delivery(2)), keys(claimDue(t, s, "a", 100)))
	wantDiff(t, "nothing left", keysOf(), keys(claimDue(t, s, "a", 100)))
}

func testDueOnly(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	now := h.clock.Now()
	insert(t, s, scheduled(1, now), scheduled(2, now.Add(time.Microsecond)), scheduled(3, now), dead(4))
	past := dead(5)
	past.RunAt = now.Add(-time.Hour)
	insert(t, s, past)
	claim(t, s, delivery(3).Key, "b")
	got := claimDue(t, s, "a", 100)
	wantDiff(t, "due", keysOf(delivery(1)), keys(got))
	want := scheduled(1, now)
	want.State = observer.Running
	if diff := diffDeliveries(want, got[0]); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	h.clock.advance(time.Microsecond)
	wantDiff(t, "a moment later", keysOf(delivery(2)), keys(claimDue(t, s, "a", 100)))
}

func testDueAgain(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, scheduled(1, h.clock.Now()))
	claimDue(t, s, "a", 1)
	h.clock.advance(lease - time.Microsecond)
	wantDiff(t, "during the lease", keysOf(), keys(claimDue(t, s, "b", 1)))
	h.clock.advance(time.Microsecond)
	got := claimDue(t, s, "b", 1)
	wantDiff(t, "after the lease", keysOf(delivery(1)), keys(got))
	got[0].Succeed()
	wantError(t, "update by the old owner", s.UpdateDelivery(t.Context(), got[0], "a"), observer.ErrBusy)
	if err := s.UpdateDelivery(t.Context(), got[0], "b"); err != nil {
		t.Errorf("update by the new owner: %v", err)
	}
}

// testDueFields is also about the fields that lists give.
func testDueFields(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	want := map[string]*observer.Delivery{}
	for _, d := range shapes() {
		d.State, d.RunAt, d.Queue = observer.Queued, h.clock.Now(), "q"
		want[d.Key] = d.Clone()
		insert(t, s, d)
	}
	check := func(what string, ds []*observer.Delivery, state observer.State) {
		t.Helper()
		wantDiff(t, what, len(want), len(ds))
		for _, d := range ds {
			c := want[d.Key].Clone()
			c.State = state
			if diff := diffDeliveries(c, d); diff != "" {
				t.Errorf("%s: %q (-want +got):\n%s", what, d.Key, diff)
			}
		}
	}
	listed, err := s.Deliveries(t.Context(), observer.DeliveryFilter{Queue: "q"})
	if err != nil {
		t.Fatal(err)
	}
	check("listed", listed, observer.Queued)
	check("claimed", claimDue(t, s, "a", 1000), observer.Running)
}

func testDueWithoutTime(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, scheduled(1, time.Time{}))
	next := nextDue(t, s)
	if next.IsZero() || next.After(h.clock.Now()) {
		t.Errorf("next due: got %v, want a time not after %v", next, h.clock.Now())
	}
	wantDiff(t, "due", keysOf(delivery(1)), keys(claimDue(t, s, "a", 1)))
}

func nextDue(t tester, s observer.StateStore) time.Time {
	t.Helper()
	return nextDueRoom(t, s, nil)
}

func nextDueRoom(t tester, s observer.StateStore, room observer.Room) time.Time {
	t.Helper()
	at, err := s.NextDue(t.Context(), room)
	if err != nil {
		t.Fatalf("next due: %v", err)
	}
	return at
}

func testNextDueNothing(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantDiff(t, "of an empty store", time.Time{}, nextDue(t, s))
	insert(t, s, dead(1), dead(2))
	claim(t, s, dead(1).Key, "a")
	wantDiff(t, "of dead letters", time.Time{}, nextDue(t, s))
}

func testNextDue(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	start := h.clock.Now()
	insert(t, s, scheduled(1, start.Add(3*time.Hour)), scheduled(2, start.Add(time.Hour)), dead(3))
	wantDiff(t, "in the future", start.Add(time.Hour), nextDue(t, s))
	h.clock.advance(2 * time.Hour)
	wantDiff(t, "in the past", start.Add(time.Hour), nextDue(t, s))
	remove(t, s, delivery(2).Key)
	wantDiff(t, "after removing it", start.Add(3*time.Hour), nextDue(t, s))
}

func testNextDueLease(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	start := h.clock.Now()
	insert(t, s, scheduled(1, start), scheduled(2, start), scheduled(3, start.Add(time.Hour)))
	claim(t, s, delivery(1).Key, "a")
	wantDiff(t, "one is free", start, nextDue(t, s))
	h.clock.advance(lease / 2)
	claim(t, s, delivery(2).Key, "a")
	wantDiff(t, "the end of the first lease", start.Add(lease), nextDue(t, s))
	d := get(t, s, delivery(1).Key)
	d.Succeed()
	update(t, s, d, "a")
	wantDiff(t, "the end of the other", start.Add(lease*3/2), nextDue(t, s))
	h.clock.advance(lease)
	wantDiff(t, "the lease is over", start, nextDue(t, s))
	insert(t, s, scheduled(4, start.Add(2*lease)))
	claim(t, s, delivery(2).Key, "b")
	wantDiff(t, "a due time before the end of a lease", start.Add(2*lease), nextDue(t, s))
}
