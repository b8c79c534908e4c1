package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func claimTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"claim/unknown key":                      testClaimUnknown,
		"claim/whatever the state":               testClaimAnyState,
		"claim/busy for others, not for oneself": testClaimBusy,
		"claim/shows the lease while it runs":    testClaimShown,
		"update/stores all and ends the claim":   testUpdate,
		"update/keeps a copy":                    testUpdateCopy,
		"update/in every state but running":      testUpdateState,
		"update/finished ones stay":              testUpdateFinished,
		"claim/not what is done or dropped":      testClaimFinished,
	}
}

func testClaimUnknown(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	_, err := s.ClaimDelivery(t.Context(), "nothing", "a", lease)
	wantError(t, "claim", err, observer.ErrNotFound)
}

func testClaimAnyState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	full := everyField()
	full.State = observer.Scheduled // due in the future
	unknown, parked := scheduled(3, h.clock.Now().Add(time.Hour)), strict(5, "other")
	unknown.State = observer.Unknown
	all := []*observer.Delivery{
		full, malformed(), dead(1), scheduled(2, h.clock.Now()), unknown, strict(4, "other"), parked,
	}
	insert(t, s, all...)
	wantDiff(t, "state", observer.Parked, parked.State)
	for _, d := range all {
		got := claim(t, s, d.Key, "a")
		want := d.Clone()
		want.State = observer.Running
		if diff := diffDeliveries(want, got); diff != "" {
			t.Errorf("claimed (-want +got):\n%s", diff)
		}
		wantDiff(t, "owner", "a", got.LeaseOwner)
		wantDiff(t, "until", h.clock.Now().Add(lease), got.LeaseUntil)
		wantDiff(t, "claimed from", d.State, got.ClaimedFrom)
		wantDiff(t, "claimed at", h.clock.Now(), got.ClaimedAt)
		wantDiff(t, "lost", 0, got.Lost)
	}
}

func testClaimFinished(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n, state := range []observer.State{observer.Done, observer.Dropped} {
		insert(t, s, queued(n, h.clock.Now()))
		d := claim(t, s, delivery(n).Key, "a")
		d.State = state
		update(t, s, d, "a")
		for _, owner := range []string{"a", "b"} {
			_, err := s.ClaimDelivery(t.Context(), d.Key, owner, lease)
			wantError(t, "claim what is "+string(state), err, observer.ErrNotFound)
		}
		wantDiff(t, "state", state, get(t, s, d.Key).State)
	}
}

func testClaimBusy(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	claim(t, s, dead(1).Key, "a")
	h.clock.advance(lease / 2)
	_, err := s.ClaimDelivery(t.Context(), dead(1).Key, "b", lease)
	wantError(t, "claim by another", err, observer.ErrBusy)
	wantDiff(t, "own claim again until", h.clock.Now().Add(lease), claim(t, s, dead(1).Key, "a").LeaseUntil)
	h.clock.advance(lease - time.Microsecond)
	_, err = s.ClaimDelivery(t.Context(), dead(1).Key, "b", lease)
	wantError(t, "claim just before the end", err, observer.ErrBusy)
	h.clock.advance(time.Microsecond)
	wantDiff(t, "claim at the end", "b", claim(t, s, dead(1).Key, "b").LeaseOwner)
}

func testClaimShown(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	updated := get(t, s, dead(1).Key).UpdatedAt
	h.clock.advance(time.Second)
	at := h.clock.Now()
	claim(t, s, dead(1).Key, "a")
	h.clock.advance(lease - time.Microsecond)
	got := get(t, s, dead(1).Key)
	wantDiff(t, "state", observer.Running, got.State)
	wantDiff(t, "claimed from", observer.Dead, got.ClaimedFrom)
	wantDiff(t, "claimed at", at, got.ClaimedAt)
	wantDiff(t, "owner", "a", got.LeaseOwner)
	wantDiff(t, "until", at.Add(lease), got.LeaseUntil)
	wantDiff(t, "updated at", updated, got.UpdatedAt)
	h.clock.advance(time.Microsecond)
	got = get(t, s, dead(1).Key)
	wantDiff(t, "state after the end", observer.Dead, got.State)
	wantDiff(t, "owner after the end", "", got.LeaseOwner)
	wantDiff(t, "until after the end", time.Time{}, got.LeaseUntil)
}

func testUpdate(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	want := everyField()
	created := h.clock.Now()
	insert(t, s, &observer.Delivery{Key: want.Key, Malformed: malformed().Malformed, State: observer.Scheduled})
	h.clock.advance(time.Second)
	for _, state := range []observer.State{observer.Dead, observer.Scheduled, observer.Unknown, observer.Queued, observer.Dropped} {
		claim(t, s, want.Key, "a")
		h.clock.advance(time.Second)
		want.State = state
		want.Attempts = append(want.Attempts, observer.Attempt{Number: len(want.Attempts) + 1, At: h.clock.Now()})
		update(t, s, want, "a")
		got := get(t, s, want.Key)
		if diff := diffDeliveries(want, got); diff != "" {
			t.Errorf("updated to %s (-want +got):\n%s", state, diff)
		}
		wantDiff(t, "created at", created, got.CreatedAt)
		wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
		wantDiff(t, "owner", "", got.LeaseOwner)
		more := want.Clone()
		more.Attempts = append(more.Attempts, observer.Attempt{Number: len(want.Attempts) + 1, At: h.clock.Now()})
		wantError(t, "update without a claim", s.UpdateDelivery(t.Context(), more, "a"), observer.ErrBusy)
	}
}

func testUpdateCopy(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, everyField())
	d := claimOf(t, s, everyField().Key, "a")
	update(t, s, d, "a")
	if diff := diffDeliveries(everyField(), d); diff != "" {
		t.Errorf("update changed its argument (-want +got):\n%s", diff)
	}
	scribble(d)
	if diff := diffDeliveries(everyField(), get(t, s, d.Key)); diff != "" {
		t.Errorf("the store kept the argument (-want +got):\n%s", diff)
	}
}

func testUpdateState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	d := claim(t, s, dead(1).Key, "a")
	for _, state := range []observer.State{"", observer.Running, "bogus"} {
		d.State = state
		if err := s.UpdateDelivery(t.Context(), d, "a"); err == nil {
			t.Errorf("update to state %q: got no error", state)
		}
	}
	wantDiff(t, "owner", "a", get(t, s, d.Key).LeaseOwner)
	for _, state := range observer.Running.Next() {
		if state == observer.Parked {
			continue // see what is put back
		}
		d = queued(2, h.clock.Now())
		insert(t, s, d)
		claim(t, s, d.Key, "a")
		d.State = state
		update(t, s, d, "a")
		wantDiff(t, "state", state, get(t, s, d.Key).State)
		remove(t, s, d.Key)
	}
}

func testUpdateFinished(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, scheduled(1, h.clock.Now()), scheduled(2, h.clock.Now()))
	finish(t, s, delivery(1).Key)
	want := map[string]observer.State{delivery(1).Key: observer.Done, delivery(2).Key: observer.Scheduled}
	wantStates(t, "after the end", s, want)
	wantDiff(t, "stored again", 0, insert(t, s, queued(1, h.clock.Now())))
	wantDiff(t, "begun again", false, begin(t, s, delivery(1), "a"))
	wantStates(t, "after trying to store it again", s, want)
}
