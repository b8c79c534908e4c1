package storetest

import (
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func insertTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"insert/round trip":                      testInsertRoundTrip,
		"insert/images decode the same":          testInsertImages,
		"insert/the first row wins":              testInsertTwice,
		"insert/also when the states differ":     testInsertTwiceOtherState,
		"insert/times and lease are the store's": testInsertOwnFields,
		"insert/only in some states":             testInsertState,
		"insert/the argument is left alone":      testInsertArgument,
		"insert/what is read is a copy":          testReadIsCopy,
		"read/unknown key":                       testReadUnknown,
	}
}

func testInsertRoundTrip(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for name, d := range shapes() {
		for _, state := range []observer.State{observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead} {
			c := *d
			c.State, c.Key = state, d.Key+string(state)
			wantDiff(t, "stored", 1, insert(t, s, &c))
			wantDiff(t, "state", state, c.State)
			if diff := diffDeliveries(&c, get(t, s, c.Key)); diff != "" {
				t.Errorf("%s, %s (-want +got):\n%s", name, state, diff)
			}
		}
	}
}

func testInsertImages(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for name, d := range shapes() {
		if d.Event == nil {
			continue
		}
		insert(t, s, d)
		wantDiff(t, name, images(d.Event), images(get(t, s, d.Key).Event))
	}
}

// images is what conditions and templates see of an event. A nil map and an
// empty one mean different things there, so the flags say which it is.
func images(e *observer.Event) map[string]any {
	fields, fieldsErr := e.Fields()
	old, oldErr := e.Old()
	changes, changesErr := e.Changes()
	return map[string]any{
		"fields": fields, "old": old, "changes": changes,
		"no old": old == nil, "no changes": changes == nil,
		"errors": []bool{fieldsErr != nil, oldErr != nil, changesErr != nil},
	}
}

func testInsertTwice(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	first := everyField()
	insert(t, s, first)
	stored := get(t, s, first.Key)
	h.clock.advance(time.Hour)
	second := *first
	second.Request, second.Error, second.Attempts = nil, "other", nil
	wantDiff(t, "stored the second time", 0, insert(t, s, &second))
	if diff := diffDeliveries(stored, get(t, s, first.Key)); diff != "" {
		t.Errorf("the second insert changed the row (-want +got):\n%s", diff)
	}
	wantDiff(t, "stored", keysOf(first), list(t, s, observer.DeliveryFilter{}))
	wantDiff(t, "updated at", stored.UpdatedAt, get(t, s, first.Key).UpdatedAt)
}

func testInsertTwiceOtherState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, scheduled(1, h.clock.Now()), dead(1), dead(2), scheduled(2, h.clock.Now()))
	if got := get(t, s, delivery(1).Key).State; got != observer.Scheduled {
		t.Errorf("state of 1: got %s, want scheduled", got)
	}
	if got := get(t, s, delivery(2).Key).State; got != observer.Dead {
		t.Errorf("state of 2: got %s, want dead", got)
	}
}

func testInsertOwnFields(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := dead(1)
	d.CreatedAt, d.UpdatedAt = time.Unix(1, 0), time.Unix(2, 0)
	d.LeaseOwner, d.LeaseUntil = "a", h.clock.Now().Add(time.Hour)
	d.ClaimedFrom, d.ClaimedAt, d.Lost, d.LostAt = observer.Queued, time.Unix(3, 0), 7, time.Unix(4, 0)
	insert(t, s, d)
	got := get(t, s, d.Key)
	wantDiff(t, "created at", h.clock.Now(), got.CreatedAt)
	wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
	wantDiff(t, "lease", "", got.LeaseOwner)
	got = claim(t, s, d.Key, "b")
	wantDiff(t, "claimed from", observer.Dead, got.ClaimedFrom)
	wantDiff(t, "lost", 0, got.Lost)
}

func testInsertState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, state := range []observer.State{"", observer.Parked, observer.Running, observer.Done, observer.Dropped, "bogus"} {
		d := delivery(1)
		d.State = state
		stored, err := s.InsertDeliveries(t.Context(), queued(2, h.clock.Now()), d)
		if err == nil || stored != 0 {
			t.Errorf("insert with state %q: stored %d and got no error", state, stored)
		}
	}
	wantDiff(t, "stored", keysOf(), list(t, s, observer.DeliveryFilter{}))
}

func testInsertArgument(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	d := everyField()
	insert(t, s, d)
	if diff := diffDeliveries(everyField(), d); diff != "" || !d.CreatedAt.IsZero() {
		t.Errorf("insert changed its argument:\n%s", diff)
	}
	scribble(d)
	if diff := diffDeliveries(everyField(), get(t, s, d.Key)); diff != "" {
		t.Errorf("the store kept the argument (-want +got):\n%s", diff)
	}
}

func testReadIsCopy(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, want := range []*observer.Delivery{everyField(), malformed()} {
		insert(t, s, want)
		got := get(t, s, want.Key)
		scribble(got)
		if diff := diffDeliveries(want, get(t, s, want.Key)); diff != "" {
			t.Errorf("changing what was read changed the store (-want +got):\n%s", diff)
		}
	}
}

func testReadUnknown(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	_, err := s.Delivery(t.Context(), "nothing")
	wantError(t, "read", err, observer.ErrNotFound)
}

// scribble changes everything in d that could be shared with a store.
func scribble(d *observer.Delivery) {
	d.Observer, d.State, d.Error = "changed", "changed", "changed"
	if len(d.Attempts) > 0 {
		d.Attempts[0].Error, d.Request[0], d.Prints[0] = "changed", '!', "changed"
	}
	if d.Malformed != nil {
		d.Malformed.Reason, d.Malformed.Raw[0] = "changed", '!'
	}
}
