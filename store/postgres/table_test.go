package postgres_test

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// TestRowsThatChangeOftenLeaveTheIndexesAlone holds what the checkpoints and
// the leases rely on. Where an index held a column that changes, no update
// would; a few do not, because somebody's snapshot still needs the old rows.
func TestRowsThatChangeOftenLeaveTheIndexesAlone(t *testing.T) {
	t.Parallel()
	const times = 500
	url := testenv.Database(t)
	s := open(t, config(url))
	insert(t, s, deadLetter("a"))
	for n := range times {
		save(t, s, "shop", position(int64(n)))
		if _, err := s.ClaimDelivery(t.Context(), deadLetter("a").Key, "a", lease); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil { // sessions report what they did when they end
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	for _, table := range []string{"tb_checkpoint", "tb_delivery"} {
		testenv.Eventually(t, conn, "SELECT n_tup_upd >= $2 FROM pg_stat_user_tables WHERE relname = $1", table, times-1)
		hot := testenv.Value[int](t, conn, "SELECT n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = $1", table)
		if hot < times*8/10 {
			t.Errorf("%s: got %d of %d updates that left the indexes alone, want 80%% at least", table, hot, times)
		}
	}
}

// TestClockOfTheDatabase is about a store that no test moves.
func TestClockOfTheDatabase(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	conn := testenv.Connect(t, url)
	now := func() time.Time { return testenv.Value[time.Time](t, conn, "SELECT clock_timestamp()") }
	between := func(what string, from, at, until time.Time) {
		if at.Before(from) || at.After(until) {
			t.Errorf("%s: got %s, want a time from %s to %s", what, at, from, until)
		}
	}
	from := now()
	save(t, s, "shop", "1")
	d := deadLetter("a")
	d.State = observer.Scheduled
	insert(t, s, d)
	claimed, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: 10})
	if err != nil || len(claimed) != 1 {
		t.Fatalf("claim due: got %d and error %v, want 1", len(claimed), err)
	}
	until := now()
	cp, err := s.LoadCheckpoint(t.Context(), "shop")
	if err != nil {
		t.Fatal(err)
	}
	between("saved at", from, cp.SavedAt, until)
	between("created at", from, claimed[0].CreatedAt, until)
	between("lease until", from.Add(lease), claimed[0].LeaseUntil, until.Add(lease))
	if err := s.ExtendLease(t.Context(), d.Key, "a", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, conn, "SELECT lease_until < clock_timestamp() FROM fraiseql_observer.tb_delivery")
	if _, err := s.ClaimDelivery(t.Context(), d.Key, "b", lease); err != nil {
		t.Errorf("claim after the lease: %v", err)
	}
}

// A claim passes over what somebody else has locked, and takes the next.
func TestClaimDueDoesNotWait(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	for _, id := range []string{"a", "b"} {
		d := deadLetter(id)
		d.State = observer.Scheduled
		insert(t, s, d)
	}
	holder := testenv.Connect(t, url)
	testenv.Exec(t, holder, "BEGIN")
	testenv.Exec(t, holder, "SELECT FROM fraiseql_observer.tb_delivery WHERE key = 'a/notify/0' FOR UPDATE")
	claimed, err := s.ClaimDue(t.Context(), observer.Claim{Owner: "a", Lease: lease, Limit: 1})
	if err != nil || len(claimed) != 1 || claimed[0].Key != "b/notify/0" {
		t.Errorf("got %v and error %v, want b/notify/0", claimed, err)
	}
}

// What is too large for a row and did not change is not written again with every
// attempt.
func TestLargeDataIsWrittenOnce(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url+"&pool_max_conns=1"))
	conn := testenv.Connect(t, url)
	d := jobs(1, 1)[0]
	text := make([]byte, 100_000) // that cannot be compressed
	_, _ = rand.Read(text)
	d.Event.Data, _ = json.Marshal(text)
	d.Request = d.Event.Data
	insert(t, s, d)
	size := func() int64 {
		return testenv.Value[int64](t, conn, "SELECT pg_relation_size(reltoastrelid) FROM pg_class WHERE oid = 'fraiseql_observer.tb_delivery'::regclass")
	}
	before := size()
	for i := range 5 {
		claimed, err := s.ClaimDelivery(t.Context(), d.Key, "a", lease)
		if err != nil {
			t.Fatal(err)
		}
		claimed.Retry(errors.New("status 503"), time.Now())
		claimed.Attempts = append(claimed.Attempts, observer.Attempt{Number: i + 1})
		if err := s.UpdateDelivery(t.Context(), claimed, "a"); err != nil {
			t.Fatal(err)
		}
	}
	if after := size(); after != before || before == 0 {
		t.Errorf("got %d bytes of large data after 5 attempts, want %d as before", after, before)
	}
}
