package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	observer "github.com/fraiseql/observer"
)

// lease is the lease the tests claim with.
const lease = time.Minute

// tester is a *testing.T or a *rapid.T.
type tester interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func queued(n int, runAt time.Time) *observer.Delivery {
	d := delivery(n)
	d.Enqueue(runAt)
	return d
}

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
		TraceParent: "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", TraceState: "a=1",
	})
	d.Action, d.ActionType = 2, "email"
	d.Request = json.RawMessage(`{"to": ["a@example.com"], "body":"<b>"}`)
	d.Prints = []string{"a1", "", "c3"}
	d.Attempts = []observer.Attempt{
		{Number: 1, At: at, Duration: 1234567, Status: 503, Detail: "busy", Error: "status 503"},
		{Number: 2, At: at.Add(time.Second), Duration: time.Second, Error: "panic: nil map", Stack: "goroutine 7 [running]:\n\tmain.go:1"},
		{Number: 3, At: at.Add(time.Minute), Error: "dial: no route", Unknown: true},
	}
	d.Queue, d.Endpoint, d.Priority = "reports", "https://example.com/hook", observer.LastPriority
	d.Order, d.BlockWhenDead = observer.OrderStrict, true
	d.Reason, d.Error, d.RunAt = observer.ReasonExhausted, "dial: no route", at.Add(time.Hour)
	d.Redrives, d.EditedAt = 3, at.Add(2*time.Hour)
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
// claim that the store sets are compared where a test is about them.
func diffDeliveries(want, got *observer.Delivery) string {
	return cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(observer.Event{}),
		cmpopts.IgnoreFields(observer.Delivery{}, "CreatedAt", "UpdatedAt",
			"LeaseOwner", "LeaseUntil", "ClaimedFrom", "ClaimedAt", "Lost", "LostAt"))
}

func insert(t tester, s observer.StateStore, ds ...*observer.Delivery) (stored int) {
	t.Helper()
	stored, err := s.InsertDeliveries(t.Context(), ds...)
	if err != nil {
		t.Fatalf("insert %q: %v", keys(ds), err)
	}
	return stored
}

// insertError is the error of storing d alone.
func insertError(t tester, s observer.StateStore, d *observer.Delivery) error {
	t.Helper()
	_, err := s.InsertDeliveries(t.Context(), d)
	return err
}

func begin(t tester, s observer.StateStore, d *observer.Delivery, owner string) (begun bool) {
	t.Helper()
	begun, err := s.BeginDelivery(t.Context(), d, owner, lease)
	if err != nil {
		t.Fatalf("begin %q for %s: %v", d.Key, owner, err)
	}
	return begun
}

func get(t tester, s observer.StateStore, key string) *observer.Delivery {
	t.Helper()
	d, err := s.Delivery(t.Context(), key)
	if err != nil {
		t.Fatalf("read %q: %v", key, err)
	}
	return d
}

func claim(t tester, s observer.StateStore, key, owner string) *observer.Delivery {
	t.Helper()
	d, err := s.ClaimDelivery(t.Context(), key, owner, lease)
	if err != nil {
		t.Fatalf("claim %q for %s: %v", key, owner, err)
	}
	return d
}

// claimOf is like claim, and gives the delivery as it was before.
func claimOf(t tester, s observer.StateStore, key, owner string) *observer.Delivery {
	t.Helper()
	d := claim(t, s, key, owner)
	d.State = d.ClaimedFrom
	return d
}

func update(t tester, s observer.StateStore, d *observer.Delivery, owner string) {
	t.Helper()
	if err := s.UpdateDelivery(t.Context(), d, owner); err != nil {
		t.Fatalf("update %q to %s by %s: %v", d.Key, d.State, owner, err)
	}
}

// finish claims a delivery and stores that it is done.
func finish(t tester, s observer.StateStore, key string) {
	t.Helper()
	d := claim(t, s, key, "finisher")
	d.Succeed()
	update(t, s, d, "finisher")
}

func remove(t tester, s observer.StateStore, key string) {
	t.Helper()
	if err := s.RemoveDelivery(t.Context(), key); err != nil {
		t.Fatalf("remove %q: %v", key, err)
	}
}

func requeue(t tester, s observer.StateStore, key string, at time.Time) observer.State {
	t.Helper()
	state, err := s.RequeueDelivery(t.Context(), key, at)
	if err != nil {
		t.Fatalf("requeue %q: %v", key, err)
	}
	return state
}

func list(t tester, s observer.StateStore, f observer.DeliveryFilter) []string {
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

func wantError(t tester, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got error %v, want %v", what, got, want)
	}
}

// wantStates compares the states of all stored deliveries, by key.
func wantStates(t tester, what string, s observer.StateStore, want map[string]observer.State) {
	t.Helper()
	ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	got := map[string]observer.State{}
	for _, d := range ds {
		got[d.Key] = d.State
	}
	wantDiff(t, what, want, got)
}

func wantDiff(t tester, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// strict is a delivery that is queued, without a time, in the strict order of an
// entity.
func strict(n int, entity string) *observer.Delivery {
	d := queued(n, time.Time{})
	d.Event.EntityID, d.Order = entity, observer.OrderStrict
	return d
}

// inEntityOrder is like strict, in the order of first attempts.
func inEntityOrder(n int, entity string) *observer.Delivery {
	d := strict(n, entity)
	d.Order = observer.OrderEntity
	return d
}

// action makes d the delivery for another action.
func action(d *observer.Delivery, index int) *observer.Delivery {
	d.Action, d.Key = index, observer.DeliveryKey(d.Event.ID, d.Observer, index)
	return d
}

// wantStored stores d and compares the state it is in then.
func wantStored(t tester, s observer.StateStore, d *observer.Delivery, want observer.State) {
	t.Helper()
	wantDiff(t, "stored of "+d.Key, 1, insert(t, s, d))
	wantDiff(t, "state of "+d.Key, want, d.State)
	wantDiff(t, "stored state of "+d.Key, want, get(t, s, d.Key).State)
}

func wantState(t tester, what string, s observer.StateStore, d *observer.Delivery, want observer.State) {
	t.Helper()
	wantDiff(t, what+": state of "+d.Key, want, get(t, s, d.Key).State)
}

// finishHeld stores that what owner runs is done.
func finishHeld(t tester, s observer.StateStore, key, owner string) {
	t.Helper()
	d := get(t, s, key)
	d.Succeed()
	update(t, s, d, owner)
}

// fail claims a delivery and stores that an attempt failed: it is then in state,
// and when that is not finished, due after an hour.
func fail(t tester, s observer.StateStore, key string, state observer.State) {
	t.Helper()
	d := claim(t, s, key, "failer")
	d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1, At: d.ClaimedAt, Error: "status 503"})
	d.State, d.RunAt = state, time.Time{}
	if !state.Finished() {
		d.RunAt = d.ClaimedAt.Add(time.Hour)
	}
	update(t, s, d, "failer")
}

func sortedKeys(ds []*observer.Delivery) []string {
	ks := keys(ds)
	slices.Sort(ks)
	return ks
}
