package postgres_test

import (
	"slices"
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// TestReceiptsWaitForLowerNumbers has a save commit after one that was given its
// number later. A reader in between is given neither.
func TestReceiptsWaitForLowerNumbers(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	conn := testenv.Connect(t, url)
	// Who stores something of this group waits for its commit as long as the other
	// session likes.
	testenv.Exec(t, conn, `
CREATE FUNCTION fraiseql_observer.wait() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(4711) WHERE NEW.group_name = 'slow';
    RETURN NULL;
END $$;
CREATE TRIGGER wait AFTER INSERT ON fraiseql_observer.tb_receipt FOR EACH ROW EXECUTE FUNCTION fraiseql_observer.wait()`)
	testenv.Exec(t, conn, "SELECT pg_advisory_lock(4711)")
	const waiting = "SELECT count(*) = $1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
	save := func(group, id string) {
		if err := s.SaveReceipts(t.Context(), group, map[string][]string{"shop": {id}}); err != nil {
			t.Error(err)
		}
	}
	slow := make(chan struct{})
	go func() { defer close(slow); save("slow", "1") }()
	testenv.Eventually(t, conn, waiting, 1)
	save("quick", "2")
	read := make(chan []observer.ReceiptBatch, 2)
	for _, group := range []string{"quick", "slow"} {
		go func() {
			found, err := s.Receipts(t.Context(), group, "shop", 0, 10)
			if err != nil {
				t.Error(err)
			}
			read <- found
		}()
	}
	testenv.Eventually(t, conn, waiting, 3)
	select {
	case found := <-read:
		t.Errorf("got %+v while a lower number is on its way", found)
	default:
	}
	testenv.Exec(t, conn, "SELECT pg_advisory_unlock(4711)")
	<-slow
	found := slices.Concat(<-read, <-read)
	slices.SortFunc(found, func(a, b observer.ReceiptBatch) int { return int(a.Seq - b.Seq) })
	if len(found) != 2 || found[0].IDs[0] != "1" || found[1].IDs[0] != "2" {
		t.Errorf("got %+v, want 1 and 2", found)
	}
}

// TestReceiptsAreFoundByTheIndex is about a table in which much waits.
func TestReceiptsAreFoundByTheIndex(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, `
INSERT INTO fraiseql_observer.tb_receipt (group_name, database_name, saved_at, ids)
SELECT 'g', 'd' || i % 10, now(), decode('0103', 'hex') FROM generate_series(1, 50000) AS i`)
	for name, test := range map[string]struct {
		sql  string
		args []any
	}{
		"read":   {postgres.SelectReceiptsSQL, []any{"g", "d3", 100, 49_000, 100}},
		"remove": {postgres.RemoveReceiptsSQL, []any{[]int64{3, 13, 23}, "g", "d3"}},
		"prune":  {postgres.PruneReceiptsSQL, []any{nil, 3_600_000_000, 100}},
		"last":   {postgres.LastReceiptSQL, nil},
	} {
		plan := explain(t, conn, s, test.sql, test.args)
		if pages := touched(t, plan); pages > 300 {
			t.Errorf("%s: touches %d pages, want at most 300:\n%s", name, pages, plan)
		}
	}
}
