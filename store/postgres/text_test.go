package postgres_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
	"github.com/fraiseql/observer/store/storetest"
)

func FuzzTexts(f *testing.F) {
	for _, text := range []string{"", "plain", "a\x00b", "\xff\xfe", "escaped:", `escaped:"`, `escaped:"a"`, "zażółć 日本 \u202e \U0001F600", "\ufffd", "\\x00", "\"'\n\u2028"} {
		f.Add(text, false)
		f.Add(text, true)
	}
	f.Fuzz(func(t *testing.T, text string, ascii bool) {
		stored := postgres.NewTexts(ascii).Encode(text)
		if got := postgres.Decode(stored); got != text {
			t.Errorf("got %q back, want %q", got, text)
		}
		if !utf8.ValidString(stored) || strings.ContainsRune(stored, 0) {
			t.Errorf("%q is stored as %q, which PostgreSQL cannot hold", text, stored)
		}
		if ascii && strings.ContainsFunc(stored, func(r rune) bool { return r >= utf8.RuneSelf }) {
			t.Errorf("%q is stored as %q, want ASCII", text, stored)
		}
		if got := postgres.Decode(text); !strings.HasPrefix(text, `escaped:"`) && got != text {
			t.Errorf("what a person wrote: got %q, want %q", got, text)
		}
	})
}

// TestAnyBytes puts what PostgreSQL cannot hold everywhere.
func TestAnyBytes(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	for name, odd := range map[string]string{
		"NUL": "a\x00b", "invalid UTF-8": "a\xff\xc0b", "cut": "zażółć"[:3], "mark": `escaped:"a"`, "surrogate": "\xed\xa0\x80",
		"long": strings.Repeat("long ", 1000), "long and NUL": strings.Repeat("\x00", 3000),
	} {
		want := &observer.Delivery{
			Key: odd, Observer: odd, ActionType: odd, State: observer.Dead, Reason: observer.Reason(odd), Error: odd,
			Request: quoted(t, odd), Queue: odd, Endpoint: odd, Prints: []string{"a", "b"},
			Event: &observer.Event{
				ID: odd, Operation: observer.Operation(odd), EntityType: odd, EntityID: odd, Data: json.RawMessage(odd), Before: json.RawMessage(odd),
				UserID: odd, TenantID: odd, ActorType: odd, ActingFor: odd, SchemaVersion: odd, CDCSource: odd, TraceParent: odd, TraceState: odd,
			},
		}
		wantStored(t, s, name, want)
		wantStored(t, s, name+", malformed", &observer.Delivery{
			Key: odd + "m", State: observer.Dead,
			Malformed: &observer.Malformed{
				ID: odd, EntityType: odd, EntityID: odd, Raw: json.RawMessage(odd), Reason: odd, Source: odd, Position: observer.Position(odd),
			},
		})
		wantCheckpoint(t, s, odd)
		list, err := s.Deliveries(t.Context(), observer.DeliveryFilter{Observer: odd})
		if err != nil || len(list) != 1 {
			t.Errorf("%s: list: got %d and error %v, want 1", name, len(list), err)
		}
	}
	keys := 0
	if err := s.DeliveryKeys(t.Context(), func(key, _ string) {
		keys++
		if _, err := s.Delivery(t.Context(), key); err != nil {
			t.Error(err)
		}
	}); err != nil || keys != 14 {
		t.Errorf("got %d keys and error %v, want 14", keys, err)
	}
}

func quoted(t *testing.T, text string) json.RawMessage {
	t.Helper()
	b, err := json.Marshal(text)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantStored stores a delivery, claims it, stores it again and reads it.
func wantStored(t *testing.T, s *postgres.Store, name string, want *observer.Delivery) {
	t.Helper()
	if _, err := s.InsertDeliveries(t.Context(), want); err != nil {
		t.Errorf("%s: insert: %v", name, err)
		return
	}
	owner := want.Key
	claimed, err := s.ClaimDelivery(t.Context(), want.Key, owner, lease)
	if err != nil {
		t.Errorf("%s: claim: %v", name, err)
		return
	}
	if diff := cmp.Diff(owner, claimed.LeaseOwner); diff != "" {
		t.Errorf("%s: owner (-want +got):\n%s", name, diff)
	}
	claimed.State = claimed.ClaimedFrom
	if err := s.UpdateDelivery(t.Context(), claimed, owner); err != nil {
		t.Errorf("%s: update: %v", name, err)
	}
	got, err := s.Delivery(t.Context(), want.Key)
	if err != nil {
		t.Errorf("%s: read: %v", name, err)
		return
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty(), cmpopts.IgnoreUnexported(observer.Event{}), cmpopts.IgnoreFields(observer.Event{}, "Timestamp"),
		cmpopts.IgnoreFields(observer.Delivery{}, "CreatedAt", "UpdatedAt")); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func wantCheckpoint(t *testing.T, s *postgres.Store, odd string) {
	t.Helper()
	want := observer.Checkpoint{Position: observer.Position(odd), Done: []string{odd, "", odd}}
	name := odd[:min(len(odd), 100)]
	if err := s.SaveCheckpoint(t.Context(), name, want); err != nil {
		t.Errorf("save %q: %v", name, err)
		return
	}
	all, err := s.Checkpoints(t.Context())
	if err != nil {
		t.Errorf("list checkpoints: %v", err)
	}
	for _, load := range []func() (observer.Checkpoint, error){
		func() (observer.Checkpoint, error) { return s.LoadCheckpoint(t.Context(), name) },
		func() (observer.Checkpoint, error) { return all[name], nil },
	} {
		got, err := load()
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(observer.Checkpoint{}, "SavedAt")); diff != "" || err != nil {
			t.Errorf("checkpoint %q: error %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// What a receiver answered may be anything; it must not keep an attempt from
// being recorded.
func TestAnyBytesInAttempts(t *testing.T) {
	t.Parallel()
	s := opened(t, config(testenv.Database(t)))
	d := deadLetter("a")
	d.Attempts = []observer.Attempt{{Number: 1, Detail: "a\x00b", Error: "\xffc"}}
	insert(t, s, d)
	got, err := s.Delivery(t.Context(), d.Key)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]observer.Attempt{{Number: 1, Detail: "a\x00b", Error: "\ufffdc"}}, got.Attempts); diff != "" {
		t.Errorf("attempts (-want +got):\n%s", diff)
	}
}

func TestDamagedRowsDoNotHideTheOthers(t *testing.T) {
	t.Parallel()
	storetest.RunDamaged(t, func(t *testing.T) (observer.StateStore, func(set, key string)) {
		t.Helper()
		url := testenv.Database(t)
		return opened(t, config(url)), func(set, key string) {
			testenv.Exec(t, testenv.Connect(t, url), "UPDATE fraiseql_observer.tb_delivery SET "+set+" WHERE key = $1", key)
		}
	})
}

func TestDamagedCheckpointIsAnError(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	save(t, s, "shop", "1")
	testenv.Exec(t, testenv.Connect(t, url), "UPDATE fraiseql_observer.tb_checkpoint SET done = '[1'")
	_, err := s.LoadCheckpoint(t.Context(), "shop")
	wantText(t, "load", err, "checkpoint shop", "damaged")
	_, err = s.Checkpoints(t.Context())
	wantText(t, "list", err, "checkpoint shop", "damaged")
}
