package storetest

import (
	"context"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// testContextEnded is about every method: an ended context is an error, and
// nothing changes.
func testContextEnded(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	done := queued(5, h.clock.Now())
	insert(t, s, done, dead(1), scheduled(2, h.clock.Now()))
	finish(t, s, done.Key)
	h.clock.advance(time.Second)
	everything := observer.Retention{DoneBefore: h.clock.Now(), DeadBefore: h.clock.Now()}
	held := claimOf(t, s, dead(1).Key, "a")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name, call := range map[string]func() error{
		"load":    func() error { _, err := s.LoadCheckpoint(ctx, "shop"); return err },
		"save":    func() error { return s.SaveCheckpoint(ctx, "shop", observer.Checkpoint{}) },
		"insert":  func() error { _, err := s.InsertDeliveries(ctx, dead(3)); return err },
		"begin":   func() error { _, err := s.BeginDelivery(ctx, dead(4), "a", lease); return err },
		"blocked": func() error { _, err := s.Blocked(ctx, "lane", "event"); return err },
		"read":    func() error { _, err := s.Delivery(ctx, held.Key); return err },
		"list":    func() error { _, err := s.Deliveries(ctx, observer.DeliveryFilter{}); return err },
		"keys":    func() error { return s.DeliveryKeys(ctx, func(string, string) {}) },
		"stats":   func() error { _, err := s.DeliveryStats(ctx); return err },
		"claim":   func() error { _, err := s.ClaimDelivery(ctx, delivery(2).Key, "a", lease); return err },
		"due": func() error {
			_, err := s.ClaimDue(ctx, observer.Claim{Owner: "a", Lease: lease, Limit: 1})
			return err
		},
		"next due": func() error { _, err := s.NextDue(ctx, nil); return err },
		"extend":   func() error { return s.ExtendLease(ctx, held.Key, "a", 2*lease) },
		"update":   func() error { return s.UpdateDelivery(ctx, held, "a") },
		"requeue":  func() error { _, err := s.RequeueDelivery(ctx, delivery(2).Key, h.clock.Now()); return err },
		"remove":   func() error { return s.RemoveDelivery(ctx, delivery(2).Key) },
		"prune":    func() error { _, err := s.PruneDeliveries(ctx, everything, 10); return err },
		"save endpoint": func() error {
			return s.SaveEndpoint(ctx, observer.Endpoint{Name: "e", Pause: observer.PausedGone})
		},
		"endpoints": func() error { _, err := s.Endpoints(ctx); return err },
	} {
		wantError(t, name, call(), context.Canceled)
	}
	wantDiff(t, "stored", keysOf(done, dead(1), dead(2)), list(t, s, observer.DeliveryFilter{}))
	wantDiff(t, "held until", held.LeaseUntil, get(t, s, held.Key).LeaseUntil)
	wantDiff(t, "not claimed or requeued", observer.Scheduled, get(t, s, delivery(2).Key).State)
	wantDiff(t, "endpoints", []observer.Endpoint(nil), endpoints(t, s))
	_, err := s.LoadCheckpoint(t.Context(), "shop")
	wantError(t, "checkpoint", err, observer.ErrNotFound)
}
