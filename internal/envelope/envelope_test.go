package envelope_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/envelope"
)

// upper is a text with a form of its own in JSON.
type upper string

func (u upper) MarshalJSON() ([]byte, error) { return json.Marshal("^" + string(u)) }

func (u *upper) UnmarshalJSON(b []byte) error {
	var text string
	err := json.Unmarshal(b, &text)
	rest, marked := strings.CutPrefix(text, "^")
	if *u = upper(rest); err == nil && !marked {
		err = errors.New("no mark")
	}
	return err
}

func samples() map[string]*observer.Delivery {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)
	ms, seq := int64(12), int64(1<<62)
	return map[string]*observer.Delivery{
		"every field": {
			Prints: []string{"a1", "", "<c>"}, Request: json.RawMessage(`{"a": "<b>"}`),
			Attempts: []observer.Attempt{
				{Number: 1, At: at, Duration: 1234567, Status: 503, Detail: "busy", Error: "status <503>"},
				{Number: 2, At: at, Error: "x", Unknown: true, Stack: "g\n\t"},
			},
			Event: &observer.Event{
				ID: "0190", Operation: observer.Update, EntityType: "Order", EntityID: `["a","ü"]`,
				Data: json.RawMessage(`{"s":1.0}`), Before: json.RawMessage(`{"s": NaN}`), UserID: "7", TenantID: "t",
				Timestamp: at, DurationMS: &ms, Seq: &seq, ActorType: "human", ActingFor: "u", SchemaVersion: "3", CDCSource: "trigger",
				TraceParent: "00-a-b-01", TraceState: "c=1",
			},
		},
		"malformed": {Malformed: &observer.Malformed{
			ID: "shop:17", EntityType: "Order", EntityID: "9", Raw: json.RawMessage(`not`), Reason: `"UP"`, Source: "shop", Position: "16",
		}},
		"nothing": {},
		"far future": {Event: &observer.Event{
			ID: "a\x00b", Timestamp: time.Date(29000, 1, 1, 0, 0, 0, 0, time.UTC),
		}},
	}
}

// TestStoredForm holds the bytes that are in databases already: what changes them
// makes the rows of before unreadable.
func TestStoredForm(t *testing.T) {
	t.Parallel()
	want := map[string]envelope.Documents{
		"every field": {
			Attempts: `[{"number":1,"at":"2026-03-04T05:06:07.890123Z","duration_ns":1234567,"status":503,"detail":"busy","error":"status \u003c503\u003e"},` +
				`{"number":2,"at":"2026-03-04T05:06:07.890123Z","duration_ns":0,"error":"x","unknown":true,"stack":"g\n\t"}]`,
			Prints: new(`["a1","","\u003cc\u003e"]`), Request: new(`{"a": "<b>"}`), Data: new(`{"s":1.0}`), Before: new(`{"s": NaN}`),
			Event: new(`{"id":"0190","event_type":"UPDATE","entity_type":"Order","entity_id":"[\"a\",\"ü\"]","user_id":"7","tenant_id":"t",` +
				`"timestamp_s":1772600767,"timestamp_ns":890123000,"duration_ms":12,"seq":4611686018427387904,` +
				`"actor_type":"human","acting_for":"u","schema_version":"3","cdc_source":"trigger","traceparent":"00-a-b-01","tracestate":"c=1"}`),
		},
		"malformed": {
			Attempts: "[]", Data: new("not"),
			Malformed: new(`{"id":"shop:17","entity_type":"Order","entity_id":"9","reason":"\"UP\"","source":"shop","position":"16"}`),
		},
		"nothing": {Attempts: "[]"},
		"far future": {
			Attempts: "[]", Event: new(`{"id":"a\u0000b","event_type":"","entity_type":"","timestamp_s":852984432000,"timestamp_ns":0}`),
		},
	}
	for name, d := range samples() {
		got, err := envelope.Encode[string](d)
		if diff := cmp.Diff(want[name], got); diff != "" || err != nil {
			t.Errorf("%s: error %v (-want +got):\n%s", name, err, diff)
		}
	}
	marked, err := envelope.Encode[upper](samples()["malformed"])
	const form = `{"id":"^shop:17","entity_type":"^Order","entity_id":"^9","reason":"^\"UP\"","source":"^shop","position":"^16"}`
	if err != nil || *marked.Malformed != form {
		t.Errorf("with texts of another form: got %s and error %v, want %s", *marked.Malformed, err, form)
	}
}

func wantSame(t *testing.T, name string, want, got *observer.Delivery) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	reverse := func(s string) string {
		b := []byte(s)
		for i := range len(b) / 2 {
			b[i], b[len(b)-1-i] = b[len(b)-1-i], b[i]
		}
		return string(b)
	}
	for name, d := range samples() {
		plain, err := envelope.Encode[string](d)
		if err != nil {
			t.Fatal(err)
		}
		marked, err := envelope.Encode[upper](d)
		if err != nil {
			t.Fatal(err)
		}
		var got, other observer.Delivery
		envelope.Decode[string](&got, plain, nil)
		envelope.Decode[upper](&other, marked.Map(reverse), reverse)
		wantSame(t, name, d, &got)
		wantSame(t, name+" in another form", d, &other)
	}
}

// Attempts of years that JSON has no form for cannot be stored, and say so.
func TestEncodeFails(t *testing.T) {
	t.Parallel()
	d := &observer.Delivery{Attempts: []observer.Attempt{{At: time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC)}}}
	if _, err := envelope.Encode[string](d); err == nil {
		t.Error("got no error")
	}
}

func TestSubject(t *testing.T) {
	t.Parallel()
	both := samples()["malformed"]
	both.Event = &observer.Event{ID: "e", EntityType: "T", EntityID: "1"}
	for name, test := range map[string]struct {
		d    *observer.Delivery
		want [3]string
	}{
		"event":     {both, [3]string{"e", "T", "1"}},
		"malformed": {samples()["malformed"], [3]string{"shop:17", "Order", "9"}},
		"neither":   {&observer.Delivery{}, [3]string{}},
	} {
		id, entityType, entityID := envelope.Subject(test.d)
		if got := [3]string{id, entityType, entityID}; got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

// FuzzDecode reads rows with anything in them. What comes out can be stored, and
// read again as it is; nothing that was there is gone without a word.
func FuzzDecode(f *testing.F) {
	for _, d := range samples() {
		docs, err := envelope.Encode[string](d)
		if err != nil {
			f.Fatal(err)
		}
		or := func(p *string) string {
			if p == nil {
				return ""
			}
			return *p
		}
		f.Add(docs.Attempts, or(docs.Prints), or(docs.Request), or(docs.Event), or(docs.Malformed), or(docs.Data), or(docs.Before))
	}
	f.Add(`[{"num`, `["a`, `half a reque`, `{"id":"b`, `x`, `{"id":1}`, `null`)
	f.Fuzz(func(t *testing.T, attempts, prints, request, event, malformed, data, before string) {
		part := func(s string) *string {
			if s == "" {
				return nil
			}
			return &s
		}
		stored := envelope.Documents{
			Attempts: attempts, Prints: part(prints), Request: part(request),
			Event: part(event), Malformed: part(malformed), Data: part(data), Before: part(before),
		}
		first := observer.Delivery{Key: "k/o/0", Observer: "o"}
		envelope.Decode[string](&first, stored, nil)
		if first.Event == nil && first.Malformed == nil && (event != "" || malformed != "") {
			t.Errorf("neither an event nor a malformed entry is left of %q and %q", event, malformed)
		}
		if len(first.Request) == 0 && request != "" || first.Request != nil && !json.Valid(first.Request) {
			t.Errorf("got request %q of %q, want JSON", first.Request, request)
		}
		again, err := envelope.Encode[string](&first)
		if err != nil {
			t.Fatalf("store it again: %v", err)
		}
		second := observer.Delivery{Key: first.Key, Observer: first.Observer, Error: first.Error}
		envelope.Decode[string](&second, again, nil)
		if diff := cmp.Diff(&first, &second, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
			t.Errorf("stored again (-first +second):\n%s", diff)
		}
	})
}
