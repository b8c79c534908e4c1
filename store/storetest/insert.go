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
		"insert/only scheduled or dead":          testInsertState,
		"insert/the argument is left alone":      testInsertArgument,
		"insert/what is read is a copy":          testReadIsCopy,
		"read/unknown key":                       testReadUnknown,
	}
}

func testInsertRoundTrip(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for name, d := range shapes() {
		for _, state := range []observer.State{observer.Scheduled, observer.Dead} {
			c := *d
			c.State, c.Key = state, d.Key+string(state)
			insert(t, s, &c)
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
	insert(t, s, &second)
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
	insert(t, s, d)
	got := get(t, s, d.Key)
	wantDiff(t, "created at", h.clock.Now(), got.CreatedAt)
	wantDiff(t, "updated at", h.clock.Now(), got.UpdatedAt)
	wantDiff(t, "lease", "", got.LeaseOwner)
	claim(t, s, d.Key, "b")
}

func testInsertState(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, state := range []observer.State{"", "done"} {
		d := delivery(1)
		d.State = state
		if err := s.InsertDelivery(t.Context(), d); err == nil {
			t.Errorf("insert with state %q: got no error", state)
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
	d.Attempts[0].Error, d.Request[0], d.Observer = "changed", '!', "changed"
	if diff := diffDeliveries(everyField(), get(t, s, d.Key)); diff != "" {
		t.Errorf("the store kept the argument (-want +got):\n%s", diff)
	}
}

func testReadIsCopy(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, want := range []*observer.Delivery{everyField(), malformed()} {
		insert(t, s, want)
		got := get(t, s, want.Key)
		got.Observer, got.State = "changed", "changed"
		if len(got.Attempts) > 0 {
			got.Attempts[0].Error, got.Request[0] = "changed", '!'
		}
		if got.Malformed != nil {
			got.Malformed.Reason, got.Malformed.Raw[0] = "changed", '!'
		}
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
