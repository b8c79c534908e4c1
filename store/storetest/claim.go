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
		"update/only scheduled or dead":          testUpdateState,
		"complete/removes":                       testComplete,
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
	for _, d := range []*observer.Delivery{full, malformed(), dead(1), scheduled(2, h.clock.Now())} {
		insert(t, s, d)
		got := claim(t, s, d.Key, "a")
		if diff := diffDeliveries(d, got); diff != "" {
			t.Errorf("claimed (-want +got):\n%s", diff)
		}
		wantDiff(t, "owner", "a", got.LeaseOwner)
		wantDiff(t, "until", h.clock.Now().Add(lease), got.LeaseUntil)
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
	claim(t, s, dead(1).Key, "a")
	got := get(t, s, dead(1).Key)
	wantDiff(t, "owner", "a", got.LeaseOwner)
	wantDiff(t, "until", h.clock.Now().Add(lease), got.LeaseUntil)
	wantDiff(t, "updated at", updated, got.UpdatedAt)
	h.clock.advance(lease)
	got = get(t, s, dead(1).Key)
	wantDiff(t, "owner after the end", "", got.LeaseOwner)
	wantDiff(t, "until after the end", time.Time{}, got.LeaseUntil)
}

func testUpdate(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	want := everyField()
	created := h.clock.Now()
	insert(t, s, &observer.Delivery{Key: want.Key, Malformed: malformed().Malformed, State: observer.Scheduled})
	h.clock.advance(time.Second)
	claim(t, s, want.Key, "a")
	for _, state := range []observer.State{observer.Dead, observer.Scheduled} {
		h.clock.advance(time.Second)
		want.State = state
		want.Attempts = append(want.Attempts, observer.Attempt{Number: len(want.Attempts) + 1, At: h.clock.Now()})
		if err := s.UpdateDelivery(t.Context(), want, "a"); err != nil {
			t.Fatalf("update to %s: %v", state, err)
		}
		got := get(t, s, want.Key)
		if diff := diffDeliveries(want, got); diff != "" {
			t.Errorf("updated to %s (-want +got):\n%s", state, diff)
		}
		wantDiff(t, "created at", created, got.CreatedAt)
		wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
		wantDiff(t, "owner", "", got.LeaseOwner)
		wantError(t, "update without a claim", s.UpdateDelivery(t.Context(), want, "a"), observer.ErrBusy)
		claim(t, s, want.Key, "b")
		if err := s.UpdateDelivery(t.Context(), got, "b"); err != nil {
			t.Fatal(err)
		}
		claim(t, s, want.Key, "a")
	}
}

func testUpdateCopy(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, everyField())
	d := claim(t, s, everyField().Key, "a")
	if err := s.UpdateDelivery(t.Context(), d, "a"); err != nil {
		t.Fatal(err)
	}
	d.Attempts[0].Error, d.Request[0], d.Error = "changed", '!', "changed"
	if diff := diffDeliveries(everyField(), get(t, s, d.Key)); diff != "" {
		t.Errorf("the store kept the argument (-want +got):\n%s", diff)
	}
}

func testUpdateState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1))
	d := claim(t, s, dead(1).Key, "a")
	d.State = ""
	if err := s.UpdateDelivery(t.Context(), d, "a"); err == nil {
		t.Error("update without a state: got no error")
	}
	wantDiff(t, "owner", "a", get(t, s, d.Key).LeaseOwner)
}

func testComplete(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), dead(2))
	claim(t, s, dead(1).Key, "a")
	if err := s.CompleteDelivery(t.Context(), dead(1).Key, "a"); err != nil {
		t.Fatal(err)
	}
	wantDiff(t, "stored", keysOf(dead(2)), list(t, s, observer.DeliveryFilter{}))
	wantError(t, "complete again", s.CompleteDelivery(t.Context(), dead(1).Key, "a"), observer.ErrBusy)
	insert(t, s, scheduled(1, h.clock.Now()))
	wantDiff(t, "owner of the new one", "", get(t, s, dead(1).Key).LeaseOwner)
}
