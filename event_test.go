package observer_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func TestEventJSONHasTheWholeShape(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 1, 2, 3, 4, 5, 678900000, time.FixedZone("CET", 3600))
	tests := map[string]struct {
		event *observer.Event
		want  string
	}{
		"nothing known": {
			&observer.Event{ID: "e1", Operation: observer.Custom, EntityType: "Order", Timestamp: at},
			`{"id":"e1","event_type":"CUSTOM","entity_type":"Order","entity_id":null,"data":null,"changes":null,` +
				`"user_id":null,"tenant_id":null,"timestamp":"2026-01-02T02:04:05.6789Z","duration_ms":null,"seq":null,` +
				`"actor_type":null,"acting_for":null,"schema_version":null,"cdc_source":null}`,
		},
		"update": {
			&observer.Event{
				ID: "e2", Operation: observer.Update, EntityType: "Order", EntityID: "7", Timestamp: at,
				Data: json.RawMessage(`{"total":100.00,"big":12345678901234567890,"s":"<&>"}`), Before: json.RawMessage(`{"total":99,"big":12345678901234567890,"s":"<&>"}`),
				UserID: "u", TenantID: "t", DurationMS: new(int64(3)), Seq: new(int64(4)), ActorType: "human_user",
				ActingFor: "a", SchemaVersion: "v1", CDCSource: "fallback_trigger",
			},
			`{"id":"e2","event_type":"UPDATE","entity_type":"Order","entity_id":"7","data":{"total":100.00,"big":12345678901234567890,"s":"\u003c\u0026\u003e"},` +
				`"changes":{"total":{"old":99,"new":100.00}},"user_id":"u","tenant_id":"t","timestamp":"2026-01-02T02:04:05.6789Z",` +
				`"duration_ms":3,"seq":4,"actor_type":"human_user","acting_for":"a","schema_version":"v1","cdc_source":"fallback_trigger"}`,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(tt.event)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.want, string(got)); d != "" {
				t.Errorf("JSON (-want +got):\n%s", d)
			}
			var back observer.Event
			if err := json.Unmarshal(got, &back); err != nil {
				t.Fatal(err)
			}
			again, err := json.Marshal(&back)
			if err != nil || string(again) != string(got) {
				t.Errorf("after a round trip: %s, %v", again, err)
			}
		})
	}
}

func TestChanges(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		op            observer.Operation
		before, after string
		want          string
	}{
		"not recorded":         {observer.Update, ``, `{"a":1}`, `null`},
		"recorded, no change":  {observer.Update, `{"a":1}`, `{"a":1}`, `{}`},
		"insert":               {observer.Insert, ``, `{"a":1}`, `null`},
		"delete":               {observer.Delete, ``, `{"a":1}`, `null`},
		"changed":              {observer.Update, `{"a":1,"b":2}`, `{"a":1,"b":3}`, `{"b":{"old":2,"new":3}}`},
		"to null":              {observer.Update, `{"a":1}`, `{"a":null}`, `{"a":{"old":1,"new":null}}`},
		"added and removed":    {observer.Update, `{"a":1}`, `{"b":1}`, `{"a":{"old":1,"new":null},"b":{"old":null,"new":1}}`},
		"equal numbers":        {observer.Update, `{"a":100,"b":1e2,"c":-0.0}`, `{"a":100.00,"b":100,"c":0}`, `{}`},
		"integers beyond 2^53": {observer.Update, `{"a":9007199254740992}`, `{"a":9007199254740993}`, `{"a":{"old":9007199254740992,"new":9007199254740993}}`},
		"number and string":    {observer.Update, `{"a":1}`, `{"a":"1"}`, `{"a":{"old":1,"new":"1"}}`},
		"nested":               {observer.Update, `{"a":{"b":[1,2.0]}}`, `{"a":{"b":[1.0,2]}}`, `{}`},
		"nested, changed":      {observer.Update, `{"a":{"b":[1,2]}}`, `{"a":{"b":[2,1]}}`, `{"a":{"old":{"b":[1,2]},"new":{"b":[2,1]}}}`},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := &observer.Event{ID: "e", Operation: tt.op, Data: json.RawMessage(tt.after), Before: json.RawMessage(tt.before)}
			changes, err := e.Changes()
			if err != nil {
				t.Fatal(err)
			}
			got, err := json.Marshal(changes)
			if err != nil || string(got) != tt.want {
				t.Errorf("changes %s (%v), want %s", got, err, tt.want)
			}
		})
	}
}

func TestHostileNumbersCostNothing(t *testing.T) {
	t.Parallel()
	for _, n := range []string{"1e999999999", "1e-999999999", "1e99999999999999999999", "0." + strings.Repeat("0", 1000) + "1"} {
		if !observer.EqualValues(json.Number(n), json.Number(n)) {
			t.Errorf("%.20s does not equal itself", n)
		}
		if observer.EqualValues(json.Number(n), json.Number("1")) {
			t.Errorf("%.20s equals 1", n)
		}
	}
	if !observer.EqualValues(json.Number("1e999999999"), json.Number("10e999999998")) {
		t.Error("equal numbers with large exponents differ")
	}
}

func TestOldIsTheBeforeImage(t *testing.T) {
	t.Parallel()
	deleted := &observer.Event{Operation: observer.Delete, Data: json.RawMessage(`{"a":1}`)}
	if old, err := deleted.Old(); err != nil || old["a"] != json.Number("1") {
		t.Errorf("old of a DELETE: %v, %v", old, err)
	}
	inserted := &observer.Event{Operation: observer.Insert, Data: json.RawMessage(`{"a":1}`)}
	if old, err := inserted.Old(); err != nil || old != nil {
		t.Errorf("old of an INSERT: %v, %v", old, err)
	}
}

func TestUndecodableDataIsAnError(t *testing.T) {
	t.Parallel()
	for _, data := range []string{`{`, `{} {}`, `{"a":NaN}`, `nope`} {
		e := &observer.Event{ID: "e1", Operation: observer.Insert, Data: json.RawMessage(data)}
		if _, err := e.Fields(); err == nil || !strings.Contains(err.Error(), "e1") {
			t.Errorf("%s: error %v does not name the event", data, err)
		}
	}
}

func FuzzEventJSON(f *testing.F) {
	f.Add([]byte(`{"id":"e","event_type":"UPDATE","entity_type":"Order","entity_id":"1","data":{"a":1},"changes":{"a":{"old":0,"new":1}}}`))
	f.Add([]byte(`{"id":"e","event_type":"NOOP","data":[1e400,null],"timestamp":"2026-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"id":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		var e observer.Event
		if json.Unmarshal(raw, &e) != nil {
			return
		}
		first, err := json.Marshal(&e)
		if err != nil {
			t.Fatalf("decoded but not encoded: %v", err)
		}
		var back observer.Event
		if err := json.Unmarshal(first, &back); err != nil {
			t.Fatalf("own encoding not decoded: %v\n%s", err, first)
		}
		second, err := json.Marshal(&back)
		if err != nil || string(first) != string(second) {
			t.Fatalf("round trip: %v\n%s\n%s", err, first, second)
		}
	})
}
