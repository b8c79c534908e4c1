package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func beginTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"begin/stores what its caller runs":    testBegin,
		"begin/every field":                    testBeginFields,
		"begin/not what is there":              testBeginTwice,
		"begin/ends like a claim":              testBeginEnds,
		"begin/is never parked":                testBeginNotParked,
		"begin/whoever began it died":          testBeginLost,
		"begin/its lease is extended":          testBeginExtend,
		"begin/what is behind it in its lane":  testBeginBlocks,
		"begin/put back it waits for a worker": testBeginPutBack,
	}
}

func testBegin(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantDiff(t, "begun", true, begin(t, s, delivery(1), "a"))
	got := get(t, s, delivery(1).Key)
	wantDiff(t, "state", observer.Running, got.State)
	wantDiff(t, "owner", "a", got.LeaseOwner)
	wantDiff(t, "until", h.clock.Now().Add(lease), got.LeaseUntil)
	wantDiff(t, "claimed from", observer.Unknown, got.ClaimedFrom)
	wantDiff(t, "claimed at", h.clock.Now(), got.ClaimedAt)
	wantDiff(t, "lost", 0, got.Lost)
	wantDiff(t, "created at", h.clock.Now(), got.CreatedAt)
	wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
	_, err := s.ClaimDelivery(t.Context(), got.Key, "b", lease)
	wantError(t, "claim by another", err, observer.ErrBusy)
	wantDiff(t, "due", keysOf(), keys(claimDue(t, s, "b", 10)))
	wantError(t, "remove", s.RemoveDelivery(t.Context(), got.Key), observer.ErrBusy)
}

func testBeginFields(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for name, d := range shapes() {
		begin(t, s, d, "a")
		want := d.Clone()
		want.State = observer.Running
		if diff := diffDeliveries(want, get(t, s, d.Key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func testBeginTwice(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), queued(2, h.clock.Now()))
	begin(t, s, delivery(3), "b")
	for n := range 3 {
		before := get(t, s, delivery(n+1).Key)
		again := delivery(n + 1)
		again.Error = "changed"
		wantDiff(t, "begun", false, begin(t, s, again, "a"))
		wantDiff(t, "what is stored", before, get(t, s, again.Key))
	}
}

func testBeginEnds(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n, state := range observer.Running.Next() {
		if state == observer.Parked {
			continue
		}
		d := delivery(n)
		begin(t, s, d, "a")
		d.State = state
		wantError(t, "update by another", s.UpdateDelivery(t.Context(), d, "b"), observer.ErrBusy)
		update(t, s, d, "a")
		got := get(t, s, d.Key)
		wantDiff(t, "state", state, got.State)
		wantDiff(t, "owner", "", got.LeaseOwner)
	}
}

func testBeginExtend(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	begin(t, s, delivery(1), "a")
	h.clock.advance(lease - time.Microsecond)
	if err := s.ExtendLease(t.Context(), delivery(1).Key, "a", lease); err != nil {
		t.Fatal(err)
	}
	wantDiff(t, "until", h.clock.Now().Add(lease), get(t, s, delivery(1).Key).LeaseUntil)
}

// testBeginLost: whether it arrived, nobody knows, and a worker tries it again.
func testBeginLost(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	start := h.clock.Now()
	begin(t, s, delivery(1), "a")
	wantDiff(t, "next due", start.Add(lease), nextDue(t, s))
	h.clock.advance(lease)
	wantDiff(t, "state", observer.Unknown, get(t, s, delivery(1).Key).State)
	due := claimDue(t, s, "b", 10)
	wantDiff(t, "due", keysOf(delivery(1)), keys(due))
	wantDiff(t, "claimed from", observer.Unknown, due[0].ClaimedFrom)
	wantDiff(t, "lost", 1, due[0].Lost)
	wantDiff(t, "lost at", start, due[0].LostAt)
}

// testBeginNotParked: it is on its way already.
func testBeginNotParked(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, strict(1, "x"))
	wantDiff(t, "begun", true, begin(t, s, strict(2, "x"), "a"))
	wantDiff(t, "state", observer.Running, get(t, s, delivery(2).Key).State)
}

func testBeginBlocks(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	begin(t, s, strict(1, "x"), "a")
	begin(t, s, inEntityOrder(2, "y"), "a")
	wantStored(t, s, strict(3, "x"), observer.Parked)
	wantStored(t, s, inEntityOrder(4, "y"), observer.Queued) // the first attempt at 2 has begun
	h.clock.advance(lease)
	wantStored(t, s, strict(5, "x"), observer.Parked)
	wantDiff(t, "due", keysOf(delivery(1), delivery(2), delivery(4)), sortedKeys(claimDue(t, s, "b", 10)))
	finishHeld(t, s, delivery(1).Key, "b")
	wantDiff(t, "state behind it", observer.Queued, get(t, s, delivery(3).Key).State)
}

func testBeginPutBack(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := delivery(1)
	begin(t, s, d, "a")
	d.State, d.RunAt = observer.Unknown, h.clock.Now().Add(time.Hour)
	update(t, s, d, "a")
	wantDiff(t, "next due", d.RunAt, nextDue(t, s))
	h.clock.advance(time.Hour)
	due := claimDue(t, s, "b", 10)
	wantDiff(t, "due", keysOf(d), keys(due))
	wantDiff(t, "lost", 0, due[0].Lost)
}
