package actiontest

import (
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

func testIdentity(t *testing.T, f Fixture) {
	if _, ok := f.New(t, Message).(observer.Identifier); !ok {
		t.Skip("the action is no observer.Identifier")
	}
	identity := func(message string, d *observer.Delivery) string {
		t.Helper()
		text, err := f.New(t, message).(observer.Identifier).Identity(t.Context(), d)
		if err != nil || text == "" || strings.Contains(text, Secret) {
			t.Fatalf("identity %q, error %v", text, err)
		}
		return text
	}
	first := identity(Message, NewDelivery(7, "shipped"))
	if again := identity(Message, another(7, "shipped")); again != first {
		t.Errorf("equal requests of two deliveries: %s and %s", first, again)
	}
	others := map[string]string{
		"another value":   identity(Message, NewDelivery(7, "lost")),
		"another message": identity("changed: "+Message, NewDelivery(7, "shipped")),
		"a secret":        identity(Message+" "+Secret, NewDelivery(7, "shipped")),
	}
	seen := map[string]string{first: "the first"}
	for what, got := range others {
		if seen[got] != "" {
			t.Errorf("%s has the identity of %s", what, seen[got])
		}
		seen[got] = what
	}
	none(t, f)
	testIdentityIsOfStored(t, f, first)
}

// testIdentityIsOfStored looks at a request that is stored: it is the one that is
// sent.
func testIdentityIsOfStored(t *testing.T, f Fixture, first string) {
	t.Helper()
	action := f.New(t, Message).(observer.Identifier)
	d := NewDelivery(7, "shipped")
	if err := action.Prepare(t.Context(), d); err != nil {
		t.Fatalf("prepare: %v", err)
	}
	request := string(d.Request)
	text, err := f.New(t, "changed: "+Message).(observer.Identifier).Identity(t.Context(), d)
	if err != nil || text != first || string(d.Request) != request {
		t.Errorf("of a stored request: identity %s, error %v, want %s", text, err, first)
	}
	fresh := NewDelivery(7, "shipped")
	if _, err := action.Identity(t.Context(), fresh); err != nil || string(fresh.Request) != request {
		t.Errorf("it stored %s, error %v; preparing stores %s", fresh.Request, err, request)
	}
	if _, err := f.New(t, "{{ data.no_such_field }}").(observer.Identifier).Identity(t.Context(), NewDelivery(7, "shipped")); observer.ReasonOf(err) != observer.ReasonTemplate {
		t.Errorf("%v, want a permanent error with reason template", err)
	}
}

// another is a delivery of an event of its own with the same data.
func another(number int, status string) *observer.Delivery {
	e := NewDelivery(number, status).Event
	e.ID, e.Timestamp = strings.Replace(e.ID, "-8000-", "-9000-", 1), e.Timestamp.Add(time.Hour)
	return observer.NewDelivery(e, "another-observer", 3, "under-test")
}
