package delivery_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// nasty holds bytes that JSON cannot, a year that it cannot, and JSON that is
// not written as encoders do.
func nasty() *observer.Delivery {
	n, seq := int64(-1), int64(1<<62)
	long := time.Date(12345, 6, 7, 8, 9, 10, 987654321, time.UTC)
	return &observer.Delivery{
		Key: "\x00\xff/ob\xfeserver/3", Observer: "ob\xfeserver", Action: 3, ActionType: "web\"hook",
		Event: &observer.Event{
			ID: "\x00\xff", Operation: observer.Update, EntityType: "<Order>", EntityID: `["a","\u0000"]`,
			Data: json.RawMessage(`{"a":1.00,"b":"\u003c<&` + "\u2028" + `"}`), Before: json.RawMessage("{ \"a\" : 100000000000000000001 }\n"),
			UserID: "u", TenantID: "t\x80", Timestamp: long, DurationMS: &n, Seq: &seq,
			ActorType: "x", ActingFor: "y", SchemaVersion: "z", CDCSource: "c", TraceParent: "p", TraceState: "s",
		},
		Prints: []string{"one", "", "\xff"}, Request: json.RawMessage(`not JSON at all ` + "\xff"),
		Attempts: []observer.Attempt{
			{Number: 1, At: long, Duration: 5, Status: 503, Detail: "\xff\x00", Error: "a\nb", Unknown: true, Stack: "s"},
			{Number: 2},
		},
		Queue: "q", Endpoint: "https://example.com/<a>", Priority: 4, Order: observer.OrderStrict, BlockWhenDead: true,
		State: observer.Dead, Reason: observer.ReasonGone, Error: "it said \x81", RunAt: long,
		Redrives: 7, EditedAt: time.Date(-44, 3, 15, 0, 0, 0, 1, time.UTC),
	}
}

func rawEntry(raw string) *observer.Delivery {
	return &observer.Delivery{
		Key: "m" + raw, State: observer.Dead, Reason: observer.ReasonMalformed, Error: "no verb",
		Malformed: &observer.Malformed{
			ID: "m" + raw, EntityType: "O\xff", EntityID: "1", Raw: json.RawMessage(raw), Reason: "no verb", Source: "db", Position: "p\x00",
		},
	}
}

// equal compares what a store keeps of a delivery by itself.
func equal() cmp.Options {
	return cmp.Options{
		cmpopts.IgnoreUnexported(observer.Event{}), cmpopts.IgnoreFields(observer.Delivery{}, "CreatedAt", "UpdatedAt"),
		cmp.Comparer(func(a, b json.RawMessage) bool { return bytes.Equal(a, b) }),
	}
}

func export(t *testing.T, store observer.DeliveryStore) string {
	t.Helper()
	var lines strings.Builder
	if _, err := delivery.Export(t.Context(), store, observer.DeliveryFilter{}, &lines); err != nil {
		t.Fatal(err)
	}
	return lines.String()
}

func TestExportAndImport(t *testing.T) {
	t.Parallel()
	store, other := newStore(), newStore()
	put(t, store, nasty(), made("e", observer.Dead), rawEntry(`{"a": 1}`), rawEntry("{\xff\x00"), rawEntry("\"\xff\""), rawEntry(`{"json":"text"}`), rawEntry(`null`), rawEntry(""))
	put(t, store, made("waits", observer.Scheduled))
	lines := export(t, store)
	if n := strings.Count(lines, "\n"); n != 8 || !utf8.ValidString(lines) {
		t.Fatalf("%d lines:\n%s", n, lines)
	}
	for _, want := range []delivery.ImportResult{{Stored: 8}, {Skipped: 8}} {
		result, err := delivery.Import(t.Context(), other, strings.NewReader(lines))
		if d := cmp.Diff(want, result); err != nil || d != "" {
			t.Errorf("error %v, result (-want +got):\n%s", err, d)
		}
	}
	want, err := store.Deliveries(t.Context(), observer.DeliveryFilter{State: observer.Dead})
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, everything(t, other), equal()); d != "" {
		t.Errorf("imported (-want +got):\n%s", d)
	}
	if again := export(t, other); stripTimes(t, again) != stripTimes(t, lines) {
		t.Errorf("exported again:\n%s\nwant\n%s", again, lines)
	}
}

// stripTimes removes when each line was stored.
func stripTimes(t *testing.T, lines string) string {
	t.Helper()
	var out strings.Builder
	for line := range strings.Lines(lines) {
		var fields map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatal(err)
		}
		delete(fields, "created_at")
		delete(fields, "updated_at")
		fmt.Fprintln(&out, fields)
	}
	return out.String()
}

// People and their tools read an export too.
func TestExportIsReadable(t *testing.T) {
	t.Parallel()
	store := newStore()
	put(t, store, made("e", observer.Dead, func(d *observer.Delivery) {
		d.Event.Data, d.Request, d.Error = json.RawMessage(`{"total":100.00}`), json.RawMessage(`{"url":"https://x/?a&b"}`), "refused <by> them"
	}))
	lines := export(t, store)
	for _, part := range []string{
		`"key":"e/o/0"`, `"data":{"json":{"total":100.00}}`, `"request":{"json":{"url":"https://x/?a&b"}}`, `"error":"refused <by> them"`, `"state":"dead"`,
	} {
		if !strings.Contains(lines, part) {
			t.Errorf("no %s in %s", part, lines)
		}
	}
}

func TestImportReportsBadLines(t *testing.T) {
	t.Parallel()
	source, store := newStore(), newStore()
	put(t, source, letters(250)...)
	lines := strings.SplitAfter(export(t, source), "\n")
	broken := strings.ReplaceAll(lines[10], `"state":"dead"`, `"state":"done"`)
	text := "\n" + strings.Join(lines[:5], "") + "{\n[]\n" + lines[5][:40] + "\n" + `{"key":"x","state":"dead"}` + "\n" + broken +
		strings.Replace(lines[11], `"key"`, `"new":1,"key"`, 1) + strings.Replace(lines[12], `"key":"dead-0012/o/0"`, `"key":"else"`, 1) +
		strings.Replace(lines[13], `"event_type":"INSERT"`, `"event_type":"MERGE"`, 1) + strings.TrimSpace(lines[14]) + lines[15] +
		strings.TrimSpace(strings.Join(lines[16:], ""))
	result, err := delivery.Import(t.Context(), store, strings.NewReader(text))
	var bad []int
	for _, b := range result.Bad {
		if bad = append(bad, b.Line); b.Err == nil {
			t.Errorf("line %d is bad for no reason", b.Line)
		}
	}
	if d := cmp.Diff([]int{7, 8, 9, 10, 11, 12, 13, 14, 15}, bad); d != "" || err != nil {
		t.Errorf("error %v, bad lines (-want +got):\n%s\n%v", err, d, result.Bad)
	}
	if want := 5 + 234; result.Stored != want || states(t, store)[observer.Dead] != want {
		t.Errorf("%d stored, want %d", result.Stored, want)
	}
}

// What somebody runs while it is exported may have been sent by then.
func TestExportOfWhatIsNotDead(t *testing.T) {
	t.Parallel()
	store, other := newStore(), newStore()
	running := put(t, store, made("running", observer.Scheduled))
	put(t, store, made("first", observer.Queued, strict), made("parked", observer.Queued, strict), made("done", observer.Queued))
	if _, err := store.ClaimDelivery(t.Context(), running, "w", time.Hour); err != nil {
		t.Fatal(err)
	}
	if _, err := delivery.Redrive(t.Context(), redriving(store, succeed), "done/o/0"); err != nil {
		t.Fatal(err)
	}
	var lines bytes.Buffer
	for _, state := range []observer.State{observer.Running, observer.Queued, observer.Parked, observer.Done} {
		if n, err := delivery.Export(t.Context(), store, observer.DeliveryFilter{State: state}, &lines); err != nil || n != 1 {
			t.Errorf("%s: %d, %v", state, n, err)
		}
	}
	result, err := delivery.Import(t.Context(), other, &lines)
	if err != nil || result.Stored != 3 || len(result.Bad) != 1 || result.Bad[0].Line != 4 {
		t.Errorf("%+v, %v", result, err)
	}
	if d := cmp.Diff(map[observer.State]int{observer.Scheduled: 1, observer.Queued: 1, observer.Parked: 1}, states(t, other)); d != "" {
		t.Error(d)
	}
	if d := stored(t, other, running); len(d.Attempts) != 1 || !d.Attempts[0].Unknown {
		t.Errorf("attempts %+v", d.Attempts)
	}
}

func TestImportIntoAFullStore(t *testing.T) {
	t.Parallel()
	source, store := newStore(), memorystore.New(memorystore.Config{MaxDead: 130})
	put(t, source, letters(150)...)
	lines := export(t, source)
	for _, want := range []delivery.ImportResult{{Stored: 130}, {Skipped: 130}} {
		result, err := delivery.Import(t.Context(), store, strings.NewReader(lines))
		if d := cmp.Diff(want, result); !errors.Is(err, observer.ErrFull) || d != "" {
			t.Errorf("error %v, result (-want +got):\n%s", err, d)
		}
	}
}

func TestImportEndsWhenTheInputFails(t *testing.T) {
	t.Parallel()
	_, err := delivery.Import(t.Context(), newStore(), failing{})
	if err == nil || !strings.Contains(err.Error(), "read line 1: no such disk") {
		t.Errorf("error %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("no such disk") }

func FuzzExport(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "text", int64(0), int64(0))
	f.Add([]byte("{\"a\": \"\xff\"}"), "\xff\x00 ", int64(1<<50), int64(999999999))
	f.Add([]byte(`{"json":{"text":1}}`), `{"base64":"AA=="}`, int64(-1<<40), int64(1))
	f.Fuzz(func(t *testing.T, raw []byte, text string, seconds, nanoseconds int64) {
		d := nasty()
		d.Error, d.Queue, d.Event.EntityID, d.Attempts[0].Detail = text, text, text, text
		d.Event.Data, d.Request = raw, raw
		d.Event.Timestamp = time.Unix(seconds%(1<<40), nanoseconds).UTC()
		m := rawEntry("x")
		m.Malformed.Raw, m.Malformed.Reason = raw, text
		store, other := newStore(), newStore()
		put(t, store, d, m)
		lines := export(t, store)
		result, err := delivery.Import(t.Context(), other, strings.NewReader(lines))
		if err != nil || result.Stored != 2 || len(result.Bad) != 0 {
			t.Fatalf("%+v, %v:\n%s", result, err, lines)
		}
		if d := cmp.Diff(everything(t, store), everything(t, other), equal()); d != "" {
			t.Errorf("imported (-want +got):\n%s", d)
		}
	})
}

func FuzzImport(f *testing.F) {
	f.Add(`{"key":"e/o/0","event":{"id":"e","event_type":"INSERT","entity_type":"Order"},"observer":"o","action":0,"state":"dead"}`)
	f.Add(`{"key":"m","malformed":{"id":"m","raw":{"text":"{"}},"action":0,"state":"queued","lost":1000000000}`)
	f.Add("[1]\n\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		store := newStore()
		result, err := delivery.Import(t.Context(), store, strings.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		if n := len(everything(t, store)); n != result.Stored {
			t.Errorf("%d stored, %d said", n, result.Stored)
		}
	})
}
