package postgres

import (
	"encoding/json"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// TestStoredForm holds the bytes that are in databases already, of texts that
// PostgreSQL cannot hold as they are.
func TestStoredForm(t *testing.T) {
	t.Parallel()
	d := &observer.Delivery{
		Event: &observer.Event{
			ID: "a\x00b", EntityType: "\xff", Timestamp: time.Date(29000, 1, 1, 0, 0, 0, 0, time.UTC),
			Data: json.RawMessage("{\"a\":\"\x00\"}"),
		},
		Attempts: []observer.Attempt{{Number: 1, Error: "ü"}},
	}
	r, err := encoding{ascii: true}.row(d, observer.Dead)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct{ got, want string }{
		"event":    {*r.Event, `{"id":"escaped:\"a\\x00b\"","event_type":"","entity_type":"escaped:\"\\xff\"","timestamp_s":852984432000,"timestamp_ns":0}`},
		"data":     {*r.Data, `escaped:"{\"a\":\"\x00\"}"`},
		"attempts": {r.Attempts, `escaped:"[{\"number\":1,\"at\":\"0001-01-01T00:00:00Z\",\"duration_ns\":0,\"error\":\"\u00fc\"}]"`},
		"id":       {r.eventID, `escaped:"a\x00b"`},
		"entity":   {r.entityType, `escaped:"\xff"`},
	} {
		if test.got != test.want {
			t.Errorf("%s: got %s, want %s", name, test.got, test.want)
		}
	}
}
