package postgres_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// oldInsert is how the release before stored a delivery.
const oldInsert = `
INSERT INTO fraiseql_observer.tb_delivery (created_at, updated_at, key, full_key, state, observer, action, action_type, reason, run_at,
    error, attempts, request, event, malformed, data, before)
VALUES ($1, $1, $2, NULL, $3, 'notify', 0, 'webhook', '', $4, $5, '[]', '{"url":"x"}', $6, $7, '{"id":1}', NULL)`

// oldRow stores what stands for $1 to $7.
func oldRow(t *testing.T, conn *pgx.Conn, values ...any) {
	t.Helper()
	testenv.Exec(t, conn, oldInsert, values...)
}

// before is a database as the release before left it, with rows that were stored
// in another order than that of their times.
func before(t *testing.T) (url string, start time.Time) {
	t.Helper()
	url = testenv.Database(t)
	conn := testenv.Connect(t, url)
	script, err := postgres.ScriptOfBefore()
	if err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, conn, script)
	start = time.Now().Add(-time.Hour).Truncate(time.Microsecond).UTC()
	event := `{"id":"e1","event_type":"INSERT","entity_type":"Order","entity_id":"7","timestamp_s":1,"timestamp_ns":2}`
	malformed, damaged := `{"id":"shop:17","entity_type":"Order","reason":"UPSERT"}`, `{"id":"e4`
	oldRow(t, conn, start.Add(3*time.Minute), "e4/notify/0", "dead", start, "status 400", &damaged, nil)
	oldRow(t, conn, start.Add(2*time.Minute), "shop:17/notify/0", "dead", start, "row 17 is bad", nil, &malformed)
	oldRow(t, conn, start.Add(time.Minute), "e2/notify/0", "scheduled", "-infinity", "status 503", &event, nil)
	oldRow(t, conn, start, "e1/notify/0", "scheduled", start.Add(2*time.Hour), "status 503", &event, nil)
	testenv.Exec(t, conn, "UPDATE fraiseql_observer.tb_dead_count SET n = n + 5 WHERE slot = 7") // as damage would
	return url, start
}

func keysOf(t *testing.T, s *postgres.Store, f observer.DeliveryFilter) []string {
	t.Helper()
	ds, err := s.Deliveries(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, d := range ds {
		keys = append(keys, d.Key)
	}
	return keys
}

func TestUpgradeKeepsWhatIsThere(t *testing.T) {
	t.Parallel()
	url, start := before(t)
	s := opened(t, config(url))
	got, err := s.Delivery(t.Context(), "e1/notify/0")
	if err != nil {
		t.Fatal(err)
	}
	want := &observer.Delivery{
		Key: "e1/notify/0", Observer: "notify", ActionType: "webhook", State: observer.Scheduled, Error: "status 503",
		RunAt: start.Add(2 * time.Hour), CreatedAt: start, UpdatedAt: start, Request: json.RawMessage(`{"url":"x"}`),
		Event: &observer.Event{ID: "e1", Operation: observer.Insert, EntityType: "Order", EntityID: "7", Data: json.RawMessage(`{"id":1}`), Timestamp: time.Unix(1, 2).UTC()},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreUnexported(observer.Event{})); diff != "" {
		t.Errorf("a delivery of before (-want +got):\n%s", diff)
	}
	for name, test := range map[string]struct {
		filter observer.DeliveryFilter
		want   []string
	}{
		"in the order of their times": {observer.DeliveryFilter{}, []string{"e1/notify/0", "e2/notify/0", "shop:17/notify/0", "e4/notify/0"}},
		"by entity":                   {observer.DeliveryFilter{EntityType: "Order"}, []string{"e1/notify/0", "e2/notify/0", "shop:17/notify/0"}},
		"by event":                    {observer.DeliveryFilter{EventID: "shop:17"}, []string{"shop:17/notify/0"}},
		"by error":                    {observer.DeliveryFilter{Fingerprint: observer.Fingerprint("row 18 is bad")}, []string{"shop:17/notify/0"}},
	} {
		if diff := cmp.Diff(test.want, keysOf(t, s, test.filter)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	wantTrueCount(t, testenv.Connect(t, url), "the upgrade")
	insert(t, s, deadLetter("new")) // behind the others
	if keys := keysOf(t, s, observer.DeliveryFilter{State: observer.Dead}); len(keys) != 3 || keys[2] != "new/notify/0" {
		t.Errorf("dead letters: got %v, want new/notify/0 last", keys)
	}
}

// A claim that was not given back before the upgrade is an attempt, whether its
// lease ended before or after.
func TestUpgradeCountsLostClaims(t *testing.T) {
	t.Parallel()
	url, start := before(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "UPDATE fraiseql_observer.tb_delivery SET lease_owner = 'old', lease_until = now() - interval '1 s' WHERE key = 'e1/notify/0'")
	testenv.Exec(t, conn, "UPDATE fraiseql_observer.tb_delivery SET lease_owner = 'old', lease_until = now() + interval '1 h' WHERE key = 'e2/notify/0'")
	cfg := config(url)
	clock := &stillClock{now: time.Now()}
	cfg.Now = clock.Now
	s := opened(t, cfg)
	if d, err := s.Delivery(t.Context(), "e2/notify/0"); err != nil || d.State != observer.Running || d.Lost != 0 || !d.ClaimedAt.Equal(start.Add(time.Minute)) {
		t.Errorf("running: got %+v and error %v, want it claimed at its last update", d, err)
	}
	clock.advance(2 * time.Hour)
	for key, want := range map[string]time.Time{"e1/notify/0": start, "e2/notify/0": start.Add(time.Minute), "e4/notify/0": {}} {
		lost := 1
		if want.IsZero() {
			lost = 0
		}
		d, err := s.ClaimDelivery(t.Context(), key, "a", lease)
		if err != nil || d.Lost != lost || !d.LostAt.Equal(want) {
			t.Errorf("%s: got %d lost at %v and error %v, want %d at %v", key, d.Lost, d.LostAt, err, lost, want)
		}
	}
}

// What a program of before buries late, which knows no lanes, keeps its lane
// waiting until the next pruning.
func TestUpgradeHealsWhatIsBuriedLate(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	insert(t, s, strict("1", "7"), strict("2", "7"))
	testenv.Exec(t, testenv.Connect(t, url), `
UPDATE fraiseql_observer.tb_delivery SET state = 'dead', reason = 'permanent', error = 'x', lease_owner = '', lease_until = '-infinity'
WHERE event_id = '1'`)
	if _, err := s.PruneDeliveries(t.Context(), observer.Retention{}, 10); err != nil {
		t.Fatal(err)
	}
	d, err := s.Delivery(t.Context(), strict("2", "7").Key)
	if err != nil || d.State != observer.Queued {
		t.Errorf("behind it: got %v and error %v, want queued", d, err)
	}
}

// What is stored late by a program of before is claimed, too.
func TestUpgradeClaimsWhatIsThere(t *testing.T) {
	t.Parallel()
	url, start := before(t)
	s := opened(t, config(url))
	event := `{"id":"e5"}`
	oldRow(t, testenv.Connect(t, url), time.Now(), "e5/notify/0", "scheduled", start, "status 503", &event, nil)
	ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for _, d := range ds {
		keys = append(keys, d.Key)
		d.Succeed()
		if err := s.UpdateDelivery(t.Context(), d, "a"); err != nil {
			t.Errorf("update %s: %v", d.Key, err)
		}
	}
	if diff := cmp.Diff([]string{"e5/notify/0", "e2/notify/0"}, keys); diff != "" {
		t.Errorf("claimed (-want +got):\n%s", diff)
	}
	state, err := s.RequeueDelivery(t.Context(), "e4/notify/0", start)
	if err != nil || state != observer.Queued {
		t.Errorf("requeue: got %q and error %v, want queued", state, err)
	}
	again := opened(t, config(url)) // gives the late one its fingerprint
	if got := keysOf(t, again, observer.DeliveryFilter{Fingerprint: observer.Fingerprint("status 400")}); len(got) != 1 {
		t.Errorf("by error: got %v, want e4/notify/0", got)
	}
}

// A role that might use the tables of before may use the new ones.
func TestUpgradeKeepsRights(t *testing.T) {
	t.Parallel()
	url, _ := before(t)
	owner := testenv.Connect(t, url)
	role, looker := newRole(t, url), newRole(t, url)
	testenv.Exec(t, owner, `GRANT USAGE ON SCHEMA fraiseql_observer TO `+role+`, `+looker+`;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA fraiseql_observer TO `+role+`;
GRANT SELECT ON ALL TABLES IN SCHEMA fraiseql_observer TO `+looker)
	wantText(t, "open before the upgrade", refused(t, config(asRole(t, url, role))), "fraiseql-observer migrate")
	if err := postgres.Migrate(t.Context(), url, ""); err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, owner, "DELETE FROM fraiseql_observer.tb_delivery")
	everyChange(t, opened(t, config(asRole(t, url, role))))
	cfg := config(asRole(t, url, looker))
	wantText(t, "open to write", refused(t, cfg), "INSERT on tb_queue")
	cfg.ReadOnly = true
	if _, err := opened(t, cfg).DeliveryStats(t.Context()); err != nil {
		t.Error(err)
	}
}

// An upgrade by script does the same.
func TestUpgradeByScript(t *testing.T) {
	t.Parallel()
	url, _ := before(t)
	script, err := postgres.Script("")
	if err != nil {
		t.Fatal(err)
	}
	testenv.Exec(t, testenv.Connect(t, url), script)
	s := opened(t, config(url))
	if keys := keysOf(t, s, observer.DeliveryFilter{EventID: "e1"}); len(keys) != 2 {
		t.Errorf("by event: got %v, want two", keys)
	}
}
