package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	observer "github.com/fraiseql/observer"
)

// lease is the lease the tests claim with.
const lease = time.Minute

func scheduled(n int, runAt time.Time) *observer.Delivery {
	d := delivery(n)
	d.State, d.RunAt = observer.Scheduled, runAt
	return d
}

func dead(n int) *observer.Delivery {
	d := delivery(n)
	d.State, d.Reason, d.Error = observer.Dead, observer.ReasonPermanent, "status 400"
	return d
}

func delivery(n int) *observer.Delivery {
	e := &observer.Event{
		ID: fmt.Sprintf("event-%06d", n), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(n),
		Data: json.RawMessage(fmt.Sprintf(`{"id":%d}`, n)), Timestamp: time.Date(2026, 2, 3, 4, 5, 6, 7, time.UTC),
	}
	return observer.NewDelivery(e, "notify", 0, "webhook")
}

// shapes are deliveries with everything a store must give back.
func shapes() map[string]*observer.Delivery {
	all := map[string]*observer.Delivery{
		"every field":       everyField(),
		"bare":              {Key: "bare", Observer: "o", State: observer.Dead},
		"malformed":         malformed(),
		"malformed raw":     {Key: "m/o/0", Malformed: &observer.Malformed{ID: "m", Raw: json.RawMessage(`not json`)}, State: observer.Dead},
		"long error":        {Key: "long/o/0", Error: strings.Repeat("é\n", 500_000), State: observer.Dead},
		"unicode key":       {Key: "日本/zażółć/'\"; --/\u202e/3", Observer: "zażółć", State: observer.Dead},
		"key with zero":     {Key: "a\x00b/o/0", State: observer.Dead},
		"event, far future": withEvent(&observer.Event{ID: "f", Operation: observer.Insert, Timestamp: time.Date(29000, 1, 1, 0, 0, 0, 0, time.UTC)}),
	}
	for name, e := range map[string]*observer.Event{
		"big numbers":           {Operation: observer.Update, Data: json.RawMessage(`{"n":9007199254740993,"d":100.00,"e":1e400}`), Before: json.RawMessage(`{"n":9007199254740992,"d":100,"e":-0.10}`)},
		"no before-image":       {Operation: observer.Update, Data: json.RawMessage(`{"a":1}`)},
		"nothing changed":       {Operation: observer.Update, Data: json.RawMessage(`{"a":1.0}`), Before: json.RawMessage(`{"a":1.00}`)},
		"field was absent":      {Operation: observer.Update, Data: json.RawMessage(`{"a":1,"b":null}`), Before: json.RawMessage(`{}`)},
		"delete":                {Operation: observer.Delete, Data: json.RawMessage(`{"a":"<&>\u2028"}`)},
		"custom without entity": {Operation: observer.Custom, Before: json.RawMessage(`[1]`)},
		"data is not an object": {Operation: observer.Insert, Data: json.RawMessage(`"text"`)},
		"data is not JSON":      {Operation: observer.Insert, Data: json.RawMessage(`{"a":NaN}`)},
		"spaces in data":        {Operation: observer.Insert, Data: json.RawMessage("{ \"b\" : 1,\n \"a\" : 2, \"a\" : 3 }")},
	} {
		e.ID = name
		all["event, "+name] = withEvent(e)
	}
	return all
}

func everyField() *observer.Delivery {
	at := time.Date(2026, 3, 4, 5, 6, 7, 890_123_000, time.UTC)
	ms, seq := int64(12), int64(1<<62)
	d := withEvent(&observer.Event{
		ID: "0190-full", Operation: observer.Update, EntityType: "Order", EntityID: `["a","ü"]`,
		Data: json.RawMessage(`{"status":"shipped"}`), Before: json.RawMessage(`{"status":"new"}`),
		UserID: "7", TenantID: "t-1", Timestamp: at.Add(123 * time.Nanosecond), DurationMS: &ms, Seq: &seq,
		ActorType: "human_user", ActingFor: "u-2", SchemaVersion: "3", CDCSource: "fallback_trigger",
	})
	d.Action, d.ActionType = 2, "email"
	d.Request = json.RawMessage(`{"to": ["a@example.com"], "body":"<b>"}`)
	d.Attempts = []observer.Attempt{
		{Number: 1, At: at, Duration: 1234567, Status: 503, Detail: "busy", Error: "status 503"},
		{Number: 2, At: at.Add(time.Second), Duration: time.Second, Error: "dial: no route"},
	}
	d.Reason, d.Error, d.RunAt = observer.ReasonExhausted, "dial: no route", at.Add(time.Hour)
	return d
}

func malformed() *observer.Delivery {
	m := &observer.Malformed{
		ID: "shop:17", EntityType: "Order", EntityID: "9", Raw: json.RawMessage(`{"modification_type": "UPSERT", "n": 1.50}`),
		Reason: `unknown modification type "UPSERT"`, Source: "shop", Position: "16",
	}
	return &observer.Delivery{Key: observer.DeliveryKey(m.ID, "notify", 0), Malformed: m, State: observer.Dead, Reason: observer.ReasonMalformed}
}

func withEvent(e *observer.Event) *observer.Delivery {
	d := observer.NewDelivery(e, "notify", 0, "webhook")
	d.State = observer.Dead
	return d
}

// diffDeliveries compares what callers gave and got back. The times and the
// lease that the store sets are compared where a test is about them.
func diffDeliveries(want, got *observer.Delivery) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(observer.Event{}),
		cmpopts.IgnoreFields(observer.Delivery{}, "CreatedAt", "UpdatedAt", "LeaseOwner", "LeaseUntil"))
}

func insert(t *testing.T, s observer.StateStore, ds ...*observer.Delivery) {
	t.Helper()
	for _, d := range ds {
		if err := s.InsertDelivery(t.Context(), d); err != nil {
			t.Fatalf("insert %q: %v", d.Key, err)
		}
	}
}

func get(t *testing.T, s observer.StateStore, key string) *observer.Delivery {
	t.Helper()
	d, err := s.Delivery(t.Context(), key)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return d
}

func claim(t *testing.T, s observer.StateStore, key, owner string) *observer.Delivery {
	t.Helper()
	d, err := s.ClaimDelivery(t.Context(), key, owner, lease)
	if err != nil {
		t.Fatalf("claim %q for %s: %v", key, owner, err)
	}
	return d
}

func list(t *testing.T, s observer.StateStore, f observer.DeliveryFilter) []string {
	t.Helper()
	ds, err := s.Deliveries(t.Context(), f)
	if err != nil {
		t.Fatalf("list %+v: %v", f, err)
	}
	return keys(ds)
}

func keys(ds []*observer.Delivery) []string {
	ks := make([]string, 0, len(ds))
	for _, d := range ds {
		ks = append(ks, d.Key)
	}
	return ks
}

func keysOf(ds ...*observer.Delivery) []string { return keys(ds) }

func wantError(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

func wantDiff(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}
