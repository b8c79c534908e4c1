package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func capTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"full/refuses and stores nothing":       testFull,
		"full/not for a key that is there":      testFullKnownKey,
		"full/not for unfinished deliveries":    testFullScheduled,
		"full/not for an update":                testFullUpdate,
		"full/counts the items there are now":   testFullMakesRoom,
		"full/holds the default without option": testFullDefault,
	}
}

// filled is a store that holds as many dead letters as it may: 1, 2 and 3.
func filled(t *testing.T, h *harness) observer.StateStore {
	t.Helper()
	s := h.store(t, Options{MaxDead: 3})
	insert(t, s, dead(1), dead(2), dead(3))
	return s
}

func testFull(t *testing.T, h *harness) {
	s := filled(t, h)
	wantError(t, "insert", insertError(t, s, dead(4)), observer.ErrFull)
	_, err := s.Delivery(t.Context(), dead(4).Key)
	wantError(t, "read", err, observer.ErrNotFound)
}

func testFullKnownKey(t *testing.T, h *harness) {
	s := filled(t, h)
	insert(t, s, dead(2))
	wantDiff(t, "stored", keysOf(dead(1), dead(2), dead(3)), list(t, s, observer.DeliveryFilter{}))
}

func testFullScheduled(t *testing.T, h *harness) {
	s := filled(t, h)
	insert(t, s, scheduled(4, h.clock.Now()), queued(5, h.clock.Now()))
	begin(t, s, delivery(6), "a")
	wantDiff(t, "stored", keysOf(dead(4)), list(t, s, observer.DeliveryFilter{State: observer.Scheduled}))
	wantDiff(t, "stored", keysOf(dead(5)), list(t, s, observer.DeliveryFilter{State: observer.Queued}))
}

func testFullUpdate(t *testing.T, h *harness) {
	s := filled(t, h)
	insert(t, s, scheduled(4, h.clock.Now()))
	d := claim(t, s, delivery(4).Key, "a")
	d.State, d.Reason = observer.Dead, observer.ReasonExhausted
	update(t, s, d, "a")
	wantDiff(t, "dead", keysOf(dead(1), dead(2), dead(3), dead(4)), list(t, s, observer.DeliveryFilter{State: observer.Dead}))
	remove(t, s, dead(1).Key)
	wantError(t, "insert at the cap again", insertError(t, s, dead(5)), observer.ErrFull)
	insert(t, s, scheduled(6, h.clock.Now()))
	fail(t, s, delivery(6).Key, observer.Dead) // one more than there may be
	wantDiff(t, "stored beside them", 1, insert(t, s, dead(2), queued(7, h.clock.Now())))
}

func testFullMakesRoom(t *testing.T, h *harness) {
	for name, makeRoom := range map[string]func(*testing.T, observer.StateStore, string){
		"remove": func(t *testing.T, s observer.StateStore, key string) {
			t.Helper()
			remove(t, s, key)
		},
		"finish": func(t *testing.T, s observer.StateStore, key string) {
			t.Helper()
			finish(t, s, key)
		},
		"redrive": func(t *testing.T, s observer.StateStore, key string) {
			t.Helper()
			requeue(t, s, key, h.clock.Now())
		},
		"prune": func(t *testing.T, s observer.StateStore, _ string) {
			t.Helper()
			wantDiff(t, "pruned", 1, prune(t, s, observer.Retention{DeadBefore: h.clock.Now().Add(time.Second)}, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := filled(t, h)
			claim(t, s, dead(1).Key, "a") // being redriven, but still dead
			wantError(t, "insert at the cap", insertError(t, s, dead(4)), observer.ErrFull)
			makeRoom(t, s, dead(2).Key)
			insert(t, s, dead(4))
			wantError(t, "insert at the cap again", insertError(t, s, dead(5)), observer.ErrFull)
		})
	}
}

func testFullDefault(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for i := range 100 {
		insert(t, s, dead(i))
	}
	wantDiff(t, "stored", 100, len(list(t, s, observer.DeliveryFilter{State: observer.Dead})))
}
