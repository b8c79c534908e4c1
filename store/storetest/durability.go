package storetest

import (
	"fmt"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func durabilityTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"durable/everything is there after opening again":  testReopen,
		"durable/a lease runs on after opening again":      testReopenLease,
		"durable/the cap counts after opening again":       testReopenFull,
		"durable/lanes keep order after opening again":     testReopenLanes,
		"durable/lost claims count after opening again":    testReopenLost,
		"two stores/one sees at once what the other wrote": testSeenAtOnce,
	}
}

func testReopen(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	s := h.open(t, opts)
	cp := observer.Checkpoint{Position: "42", Done: []string{"a", "b"}}
	if err := s.SaveCheckpoint(t.Context(), "shop", cp); err != nil {
		t.Fatal(err)
	}
	for _, d := range shapes() {
		insert(t, s, d)
	}
	before := stats(t, s)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.store(t, opts)
	wantCheckpoint(t, s, "shop", cp)
	for name, d := range shapes() {
		if diff := diffDeliveries(d, get(t, s, d.Key)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	wantDiff(t, "stats", before, stats(t, s))
}

func testReopenLease(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	s := h.open(t, opts)
	insert(t, s, scheduled(1, h.clock.Now()))
	claimDue(t, s, "a", 1)
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.store(t, opts)
	wantDiff(t, "due during the lease", keysOf(), keys(claimDue(t, s, "b", 1)))
	if err := s.ExtendLease(t.Context(), delivery(1).Key, "a", 2*lease); err != nil {
		t.Errorf("extend by the owner: %v", err)
	}
	h.clock.advance(2 * lease)
	wantDiff(t, "due after the lease", keysOf(delivery(1)), keys(claimDue(t, s, "b", 1)))
}

func testReopenFull(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir(), MaxDead: 2}
	s := h.open(t, opts)
	insert(t, s, dead(1), dead(2))
	if err := s.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
	s = h.store(t, opts)
	wantError(t, "insert at the cap", insertError(t, s, dead(3)), observer.ErrFull)
	// A larger cap is a larger cap, a smaller one loses nothing.
	larger := h.store(t, Options{Dir: opts.Dir, MaxDead: 3})
	insert(t, larger, dead(3))
	smaller := h.store(t, Options{Dir: opts.Dir, MaxDead: 1})
	wantError(t, "insert far above the cap", insertError(t, smaller, dead(4)), observer.ErrFull)
	wantDiff(t, "stored", keysOf(dead(1), dead(2), dead(3)), list(t, smaller, observer.DeliveryFilter{}))
}

func testReopenLanes(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	order := []int{3, 9, 1, 5}
	for _, n := range order {
		s := h.open(t, opts)
		insert(t, s, strict(n, "x"))
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
	for _, n := range order {
		s := h.open(t, opts)
		due := claimDue(t, s, "a", 10)
		wantDiff(t, "due", keysOf(delivery(n)), keys(due))
		due[0].Succeed()
		update(t, s, due[0], "a")
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func testReopenLost(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	var lostAt time.Time
	for crashes := range 4 {
		s := h.open(t, opts)
		if crashes == 0 {
			begin(t, s, delivery(1), "owner 0")
		} else {
			d := claim(t, s, delivery(1).Key, fmt.Sprint("owner ", crashes))
			wantDiff(t, "lost", crashes, d.Lost)
			wantDiff(t, "lost at", lostAt, d.LostAt)
			wantDiff(t, "claimed from", observer.Unknown, d.ClaimedFrom)
		}
		lostAt = h.clock.Now()
		h.clock.advance(lease)
		if err := s.Close(); err != nil {
			t.Fatalf("close: %v", err)
		}
	}
}

func testSeenAtOnce(t *testing.T, h *harness) {
	opts := Options{Dir: t.TempDir()}
	a, b := h.store(t, opts), h.store(t, opts)
	for n := range 50 {
		if err := a.SaveCheckpoint(t.Context(), "shop", observer.Checkpoint{Position: position(n)}); err != nil {
			t.Fatal(err)
		}
		wantCheckpoint(t, b, "shop", observer.Checkpoint{Position: position(n)})
		insert(t, a, scheduled(n, h.clock.Now()))
		claim(t, b, delivery(n).Key, "b")
		_, err := a.ClaimDelivery(t.Context(), delivery(n).Key, "a", lease)
		wantError(t, "claim what the other runs", err, observer.ErrBusy)
		d := get(t, a, delivery(n).Key)
		d.Succeed()
		update(t, b, d, "b")
		wantDiff(t, "state", observer.Done, get(t, a, d.Key).State)
		remove(t, a, d.Key)
		h.clock.advance(time.Millisecond)
	}
	wantDiff(t, "left", keysOf(), list(t, a, observer.DeliveryFilter{}))
}
