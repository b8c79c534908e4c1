package storetest

import (
	"strconv"
	"testing"

	observer "github.com/fraiseql/observer"
)

func redrivenTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"redriven/blocks its lane while it runs":         testRedriven,
		"redriven/only in strict order":                  testRedrivenNot,
		"redriven/behind what left before":               testRedrivenBehind,
		"redriven/each end of the claim frees the lane":  testRedrivenEnds,
		"redriven/a claim that is lost does, by pruning": testRedrivenLost,
		"redriven/that blocks when dead, blocks on":      testRedrivenBlocking,

		"concurrent/redriven beside what is stored": oneStore(testRedrivenRace),
		"two stores/redriven beside what is stored": twoStores(testRedrivenRace),
	}
}

// deadStrict is a dead letter of which the lane goes on.
func deadStrict(n int, entity string) *observer.Delivery {
	d := strict(n, entity)
	d.State, d.Reason, d.Error = observer.Dead, observer.ReasonPermanent, "status 400"
	return d
}

func testRedriven(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, deadStrict(1, "x"))
	wantBlocked(t, s, "before the claim", false)
	wantDiff(t, "claimed from", observer.Dead, claim(t, s, delivery(1).Key, "person").ClaimedFrom)
	wantBlocked(t, s, "while it runs", true)
	wantStored(t, s, strict(2, "x"), observer.Parked)
	wantStored(t, s, strict(3, "y"), observer.Queued)
	if err := s.ExtendLease(t.Context(), delivery(1).Key, "person", 3*lease); err != nil {
		t.Fatal(err)
	}
	h.clock.advance(2 * lease)
	prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 10)
	wantState(t, "under a longer lease", s, delivery(2), observer.Parked)
	wantDiff(t, "due", keysOf(delivery(3)), keys(claimDue(t, s, "a", 10)))
	finishHeld(t, s, delivery(1).Key, "person")
	wantState(t, "after its end", s, delivery(2), observer.Queued)
}

// testRedrivenBehind: the claim keeps back what is parked by then, not what was on
// its way before.
func testRedrivenBehind(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, deadStrict(1, "x"), strict(2, "x"), strict(3, "x"))
	claim(t, s, delivery(1).Key, "person")
	wantDiff(t, "due", keysOf(delivery(2)), keys(claimDue(t, s, "a", 10)))
	finishHeld(t, s, delivery(2).Key, "a")
	wantState(t, "while it runs", s, delivery(3), observer.Parked)
	finishHeld(t, s, delivery(1).Key, "person")
	wantState(t, "after its end", s, delivery(3), observer.Queued)
}

// wantBlocked is about a new event of the entity x.
func wantBlocked(t *testing.T, s observer.StateStore, what string, want bool) {
	t.Helper()
	got, err := s.Blocked(t.Context(), strict(0, "x").Lane(), "another")
	if err != nil {
		t.Fatal(err)
	}
	wantDiff(t, "blocked "+what, want, got)
}

func testRedrivenNot(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for n, order := range []observer.Order{observer.OrderEntity, observer.OrderNone, ""} {
		d := deadStrict(n, "x")
		d.Order = order
		insert(t, s, d)
		claim(t, s, d.Key, "person")
		later := strict(n+10, "x")
		later.Order = order
		wantStored(t, s, later, observer.Queued)
		finish(t, s, later.Key)
		finishHeld(t, s, d.Key, "person")
	}
}

func testRedrivenEnds(t *testing.T, h *harness) {
	for name, test := range map[string]struct {
		end  func(s observer.StateStore, d *observer.Delivery)
		free bool
	}{
		"done": {func(s observer.StateStore, d *observer.Delivery) { d.Succeed(); update(t, s, d, "person") }, true},
		"dead": {func(s observer.StateStore, d *observer.Delivery) { d.State = observer.Dead; update(t, s, d, "person") }, true},
		"scheduled": {func(s observer.StateStore, d *observer.Delivery) {
			d.State = observer.Scheduled
			update(t, s, d, "person")
		}, false},
		"removed": {func(s observer.StateStore, d *observer.Delivery) {
			h.clock.advance(lease)
			remove(t, s, d.Key)
		}, true},
	} {
		s := h.store(t, Options{})
		insert(t, s, deadStrict(1, "x"))
		d := claim(t, s, delivery(1).Key, "person")
		insert(t, s, strict(2, "x"))
		test.end(s, d)
		want := observer.Parked
		if test.free {
			want = observer.Queued
		}
		wantState(t, name, s, delivery(2), want)
	}
}

func testRedrivenLost(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, deadStrict(1, "x"))
	claim(t, s, delivery(1).Key, "person")
	insert(t, s, strict(2, "x"), strict(3, "x"))
	h.clock.advance(lease)
	prune(t, s, observer.Retention{}, 10)
	wantStates(t, "after the lease", s, map[string]observer.State{
		delivery(1).Key: observer.Dead, delivery(2).Key: observer.Queued, delivery(3).Key: observer.Parked,
	})
	wantDiff(t, "lost", 1, claim(t, s, delivery(1).Key, "another").Lost)
	h.clock.advance(lease)
	prune(t, s, observer.Retention{}, 10)
	wantDiff(t, "pruned", 1, prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 10))
}

func testRedrivenBlocking(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := deadStrict(1, "x")
	d.BlockWhenDead = true
	insert(t, s, d, strict(2, "x"))
	claim(t, s, d.Key, "person")
	h.clock.advance(lease)
	prune(t, s, observer.Retention{DeadBefore: h.clock.Now()}, 10)
	wantState(t, "after a lost claim", s, delivery(2), observer.Parked)
	update(t, s, claimOf(t, s, d.Key, "person"), "person")
	wantState(t, "put back", s, delivery(2), observer.Parked)
	finish(t, s, d.Key)
	wantState(t, "done", s, delivery(2), observer.Queued)
}

// testRedrivenRace claims dead letters while others of their lanes are stored:
// what was stored after the claim waits, and whoever claimed sees the rest.
func testRedrivenRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	for lane := range raceCap {
		insert(t, stores[0], deadStrict(lane, strconv.Itoa(lane)))
	}
	together(2*raceCap, func(i int) {
		s, lane := stores[i/2%len(stores)], i/2
		d := strict(lane, strconv.Itoa(lane))
		if i%2 == 1 {
			insert(t, stores[(i/2+1)%len(stores)], strict(100+lane, d.Event.EntityID))
			return
		}
		claim(t, s, d.Key, "person")
		blocked, err := s.Blocked(t.Context(), d.Lane(), d.Event.ID)
		if err != nil {
			t.Error(err)
		}
		later, err := s.Delivery(t.Context(), delivery(100+lane).Key)
		if err == nil && later.State == observer.Queued && !blocked {
			t.Errorf("lane %d: nothing seems to be on its way, and %s is", lane, later.Key)
		}
	})
	for lane := range raceCap {
		finishHeld(t, stores[0], delivery(lane).Key, "person")
		wantState(t, "in the end", stores[0], delivery(100+lane), observer.Queued)
	}
}
