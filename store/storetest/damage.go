package storetest

import (
	"encoding/json"
	"strings"
	"testing"

	observer "github.com/fraiseql/observer"
)

// RunDamaged damages rows of a store in SQL and checks that they do not hide the
// others, and that nothing of them is lost. open opens an empty store, which is
// closed with the test, and gives what changes columns of the row under a key.
func RunDamaged(t *testing.T, open func(t *testing.T) (s observer.StateStore, damage func(set, key string))) {
	t.Helper()
	for name, test := range map[string]struct {
		set  string
		want []string // in Error or the salvaged text
	}{
		"attempts":  {`attempts = '[{"num'`, []string{"status 400; the stored attempts are damaged", `[{"num`}},
		"prints":    {`prints = '["a'`, []string{"fingerprints of its observer are damaged", `["a`}},
		"request":   {`request = 'half a reque'`, []string{"request is not JSON", "half a reque"}},
		"event":     {`event = '{"id":"b'`, []string{"event is damaged", `{\"id\":\"b`, `{\"id\":2}`}},
		"malformed": {`malformed = 'x', event = NULL`, []string{"event is damaged", `"malformed":"x"`, `{\"id\":2}`}},
		"escaped":   {`event = 'escaped:"\'`, []string{"event is damaged", `escaped:`, `{\"id\":2}`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, damage := open(t)
			insert(t, s, dead(1), dead(2), dead(3))
			key := dead(2).Key
			damage(test.set, key)
			ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{})
			if err != nil || len(ds) != 3 {
				t.Fatalf("got %d deliveries and error %v, want 3", len(ds), err)
			}
			wantSalvaged(t, "listed", ds[1], test.want)
			// Redriving and burying it again loses nothing of what is left.
			update(t, s, claimOf(t, s, key, "a"), "a")
			wantSalvaged(t, "after an update", get(t, s, key), test.want)
		})
	}
}

func wantSalvaged(t *testing.T, what string, d *observer.Delivery, want []string) {
	t.Helper()
	text := d.Error + string(d.Request)
	if d.Malformed != nil {
		text += string(d.Malformed.Raw)
		if d.Malformed.ID != dead(2).Event.ID || !json.Valid(d.Malformed.Raw) {
			t.Errorf("%s: got malformed entry %q with %s, want the id of the event and JSON", what, d.Malformed.ID, d.Malformed.Raw)
		}
	}
	if d.Event == nil && d.Malformed == nil {
		t.Errorf("%s: got neither an event nor a malformed entry", what)
	}
	for _, part := range want {
		if !strings.Contains(text, part) {
			t.Errorf("%s: got %q, want %q in it", what, text, part)
		}
	}
}
