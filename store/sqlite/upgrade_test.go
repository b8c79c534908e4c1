package sqlite

import (
	"database/sql"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	observer "github.com/fraiseql/observer"
)

// insertVersion1 is how rows came into the tables of version 1. A lease was
// taken by an update.
const insertVersion1 = `
INSERT INTO tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at,
    error, attempts, request, event, malformed, data, before, lease_owner, lease_until)
VALUES (?1, ?2, 'notify', 0, 'webhook', ?3, ?4, ?5, ?6, ?7, '[{"number":1,"at":"2026-02-03T04:05:06Z","duration_ns":5,"error":"x"}]',
    '{"url":"http://localhost/"}', ?8, ?9, '{"id":1}', NULL, iif(?10 > 0, 'old', ''), ?10)`

// version1 is a file with rows of version 1: scheduled at 2 s and without a time,
// dead with two errors, one of them leased until 9 s, malformed, and damaged.
func version1(t *testing.T) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "state.db")
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close() //nolint:errcheck // what follows opens it again
	db.SetMaxOpenConns(1)
	p, err := newProvider(db)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.UpTo(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	event := func(id string) string {
		return `{"id":"` + id + `","event_type":"INSERT","entity_type":"Order","entity_id":"7","timestamp_s":5,"timestamp_ns":6}`
	}
	for _, args := range [][]any{
		{"a/notify/0", "scheduled", "", 2_000_000, 1_000_000, 1_000_000, "status 503", event("a"), nil, 0},
		{"b/notify/0", "scheduled", "", 0, 1_000_001, 1_000_001, "", event("b"), nil, 0},
		{"c/notify/0", "dead", "permanent", 0, 1_000_002, 1_500_000, "status 400 after 1001 ms", event("c"), nil, 0},
		{"d/notify/0", "dead", "permanent", 0, 1_000_003, 1_500_000, "status 400 after 2002 ms", event("d"), nil, 9_000_000},
		{"e/notify/0", "dead", "malformed", 0, 1_000_004, 1_000_004, "", nil, `{"id":"e","entity_type":"Order","reason":"odd"}`, 0},
		{"f/notify/0", "dead", "gone", 0, 1_000_005, 1_000_005, "x", `{"id":"f`, nil, 0},
	} {
		if _, err := db.ExecContext(t.Context(), insertVersion1, args...); err != nil {
			t.Fatal(err)
		}
	}
	return path
}

func keysWhere(t *testing.T, s *Store, f observer.DeliveryFilter) string {
	t.Helper()
	ds, err := s.Deliveries(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, d := range ds {
		keys = append(keys, d.Key[:1])
	}
	return strings.Join(keys, " ")
}

func upgraded(t *testing.T, seconds int64, maxDead int) *Store {
	t.Helper()
	s, err := Open(t.Context(), Config{
		Path: version1(t), MaxDead: maxDead, Now: func() time.Time { return time.Unix(seconds, 0) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestUpgradeKeepsDeliveries(t *testing.T) {
	t.Parallel()
	s := upgraded(t, 10, 0)
	got, err := s.Delivery(t.Context(), "a/notify/0")
	if err != nil {
		t.Fatal(err)
	}
	want := &observer.Delivery{
		Key: "a/notify/0", State: observer.Scheduled, Observer: "notify", ActionType: "webhook", Error: "status 503",
		RunAt: time.Unix(2, 0).UTC(), CreatedAt: time.Unix(1, 0).UTC(), UpdatedAt: time.Unix(1, 0).UTC(),
		Request: []byte(`{"url":"http://localhost/"}`),
		Event: &observer.Event{
			ID: "a", Operation: observer.Insert, EntityType: "Order", EntityID: "7", Data: []byte(`{"id":1}`),
			Timestamp: time.Unix(5, 6).UTC(),
		},
		Attempts: []observer.Attempt{{Number: 1, At: time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC), Duration: 5, Error: "x"}},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
		t.Errorf("a (-want +got):\n%s", diff)
	}
	print400 := observer.Fingerprint("status 400 after 9009 ms")
	for want, f := range map[string]observer.DeliveryFilter{
		"a b c d e f": {},
		"a b":         {State: observer.Scheduled},
		"c d e f":     {State: observer.Dead},
		"a b c d e":   {EntityType: "Order"},
		"a b c d":     {EntityID: "7"},
		"d":           {EventID: "d"},
		"e":           {EventID: "e"},
		"c d":         {Fingerprint: print400},
	} {
		if got := keysWhere(t, s, f); got != want {
			t.Errorf("%+v: got %q, want %q", f, got, want)
		}
	}
	d, err := s.Delivery(t.Context(), "d/notify/0")
	if err != nil || d.Lost != 1 || !d.LostAt.Equal(time.UnixMicro(1_500_000)) {
		t.Errorf("the one of which the lease ended: got %d lost at %v and error %v, want 1 at its last update", d.Lost, d.LostAt, err)
	}
	stats, err := s.DeliveryStats(t.Context())
	wantStates := map[observer.State]int{observer.Scheduled: 2, observer.Dead: 4}
	if diff := cmp.Diff(wantStates, stats.States); err != nil || diff != "" || stats.DeadByError[print400].Count != 2 {
		t.Errorf("stats: error %v, by error %v (-want +got):\n%s", err, stats.DeadByError, diff)
	}
}

func TestUpgradeKeepsWorkAndLimits(t *testing.T) {
	t.Parallel()
	s := upgraded(t, 5, 4)
	next, err := s.NextDue(t.Context(), nil)
	if err != nil || !next.Equal(time.UnixMicro(1_000_001)) {
		t.Errorf("next due: got %v and error %v, want when b was stored", next, err)
	}
	ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "o", Lease: time.Minute, Limit: 10})
	if err != nil || len(ds) != 2 || ds[0].Key != "b/notify/0" || ds[1].Key != "a/notify/0" {
		t.Errorf("due: got %v and error %v, want b and a", ds, err)
	}
	_, err = s.ClaimDelivery(t.Context(), "d/notify/0", "o", time.Minute)
	if err == nil {
		t.Error("claimed what is leased by the release before")
	}
	if _, err := s.InsertDeliveries(t.Context(), letter(1, `{}`)); err == nil {
		t.Error("stored a dead letter beyond the cap")
	}
	if err := s.RemoveDelivery(t.Context(), "c/notify/0"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.InsertDeliveries(t.Context(), letter(1, `{}`)); err != nil {
		t.Errorf("room for one: %v", err)
	}
}

func TestReadOnlyDoesNotUpgrade(t *testing.T) {
	t.Parallel()
	s, err := Open(t.Context(), Config{Path: version1(t), ReadOnly: true})
	if err == nil {
		_ = s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "version 1, this program reads version 5; start the daemon") {
		t.Errorf("got error %v, want one that says how to upgrade", err)
	}
}
