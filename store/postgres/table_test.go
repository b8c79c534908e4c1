package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
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

// TestStatementsReadLittle counts the pages that the statements of the worker
// touch in a table of 50,000 rows, before and after PostgreSQL knows its size.
func TestStatementsReadLittle(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "ALTER TABLE fraiseql_observer.tb_delivery SET (autovacuum_enabled = off)")
	testenv.Exec(t, conn, `
INSERT INTO fraiseql_observer.tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at, error, attempts)
SELECT 'k' || i, CASE WHEN i % 2 = 0 THEN 'dead' ELSE 'scheduled' END, 'notify', 0, '', '',
    now() - i * interval '1 second', now(), now(), '', '[]' FROM generate_series(1, 50000) AS i`)
	d := dueTime(time.Now())
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			testenv.Exec(t, conn, "ANALYZE fraiseql_observer.tb_delivery")
		}
		for name, test := range map[string]struct {
			byIndex bool
			sql     string
			args    []any
		}{
			"claim":                {false, postgres.ClaimSQL, []any{nil, "k77", 1, "a"}},
			"claim due":            {true, postgres.ClaimDueSQL, []any{nil, "a", 1, 10}},
			"next due":             {false, postgres.NextDueSQL, []any{nil}},
			"insert":               {false, postgres.InsertSQL, []any{nil, "new", nil, "dead", "o", 0, "", "", d, "", "[]", nil, nil, nil, nil, nil, 100_000}},
			"page of dead letters": {false, "SELECT key FROM {{schema}}.tb_delivery WHERE state = 'dead' ORDER BY created_at, key OFFSET 0 LIMIT $1", []any{50}},
		} {
			if pages, plan := touched(t, conn, test.byIndex, s.SQL(test.sql), test.args); pages > 200 {
				t.Errorf("%s, statistics %t: touches %d pages, want at most 200:\n%s", name, analyzed, pages, plan)
			}
		}
	}
}

func dueTime(at time.Time) string { return at.Format(time.RFC3339) }

// touched runs a statement in a transaction that is rolled back, and gives the
// number of pages it touched.
func touched(t *testing.T, conn *pgx.Conn, byIndex bool, sql string, args []any) (pages int, plan string) {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // the connection is checked by its next use
	if byIndex {
		if _, err := tx.Exec(t.Context(), postgres.ByIndexSQL); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := tx.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS) "+sql, slices.Concat([]any{pgx.QueryExecModeDescribeExec}, args)...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
	for _, line := range lines { // the first is about the whole statement
		_, counts, found := strings.Cut(line, "Buffers: ")
		if !found {
			continue
		}
		var hit, read int
		for field := range strings.FieldsSeq(counts) {
			_, _ = fmt.Sscanf(field, "hit=%d", &hit)
			_, _ = fmt.Sscanf(field, "read=%d", &read)
		}
		return hit + read, strings.Join(lines, "\n")
	}
	t.Fatalf("no pages in the plan:\n%s", strings.Join(lines, "\n"))
	return 0, ""
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
	claimed, err := s.ClaimDue(t.Context(), "a", lease, 10)
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
	claimed, err := s.ClaimDue(t.Context(), "a", lease, 1)
	if err != nil || len(claimed) != 1 || claimed[0].Key != "b/notify/0" {
		t.Errorf("got %v and error %v, want b/notify/0", claimed, err)
	}
}
