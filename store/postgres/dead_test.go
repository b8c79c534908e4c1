package postgres_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

const wrongCount = `
SELECT (SELECT sum(n) FROM fraiseql_observer.tb_dead_count) <> (SELECT count(*) FROM fraiseql_observer.tb_delivery WHERE state = 'dead')`

func wantTrueCount(t *testing.T, conn *pgx.Conn, after string) {
	t.Helper()
	if testenv.Value[bool](t, conn, wrongCount) {
		t.Errorf("after %s: the number of dead letters that is kept is not the one there is", after)
	}
}

// The cap holds exactly across the place where inserts stop to run beside each
// other, too.
func TestCapHoldsAcrossTheMargin(t *testing.T) {
	t.Parallel()
	const limit, tries = postgres.Margin + 30, postgres.Margin + 100
	url := testenv.Database(t)
	cfg := config(url)
	cfg.MaxDead = limit
	stores := []*postgres.Store{opened(t, cfg), opened(t, cfg)}
	var next, accepted atomic.Int64
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := next.Add(1); n <= tries; n = next.Add(1) {
				_, err := stores[i%2].InsertDeliveries(t.Context(), deadLetter(strconv.FormatInt(n, 10)))
				if err == nil {
					accepted.Add(1)
				} else if !errors.Is(err, observer.ErrFull) {
					t.Errorf("insert: %v", err)
				}
			}
		})
	}
	wg.Wait()
	if n := accepted.Load(); n != limit {
		t.Errorf("got %d accepted, want %d", n, limit)
	}
	wantTrueCount(t, testenv.Connect(t, url), "the race")
}

// TestDeadLettersDoNotWaitForEachOther leaves one open, as a slow commit is, and
// stores another. Close to the cap the other has to wait.
func TestDeadLettersDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	for name, test := range map[string]struct {
		maxDead int
		waits   bool
	}{"far from the cap": {0, false}, "close to the cap": {postgres.Margin, true}} {
		cfg := config(url + "&pool_max_conns=1")
		cfg.Schema, cfg.MaxDead = name, test.maxDead
		s, slow := opened(t, cfg), opened(t, cfg)
		tx := inAnotherSlot(t, s, slow)
		if _, err := tx.Exec(t.Context(), s.SQL("SELECT pg_advisory_xact_lock_shared($1)"), s.DeadLock()); err != nil {
			t.Fatal(err)
		}
		if _, err := tx.Exec(t.Context(), s.SQL(`
INSERT INTO {{schema}}.tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at, error, attempts)
VALUES ('slow', 'dead', 'notify', 0, '', '', now(), now(), now(), '', '[]')`)); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := s.InsertDeliveries(ctx, deadLetter("a"))
		cancel()
		if errors.Is(err, context.DeadlineExceeded) != test.waits || !test.waits && err != nil {
			t.Errorf("%s: got error %v, want that it waits: %t", name, err, test.waits)
		}
		// What is not dead never waits.
		scheduled := deadLetter("b")
		scheduled.State = observer.Scheduled
		insert(t, s, scheduled)
		if err := tx.Rollback(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// inAnotherSlot begins a transaction in a session that counts elsewhere than the
// only one of s does.
func inAnotherSlot(t *testing.T, s, other *postgres.Store) pgx.Tx {
	t.Helper()
	slot := func(q interface {
		QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
	}) (n int) {
		if err := q.QueryRow(t.Context(), "SELECT pg_backend_pid() % 32").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for {
		tx, err := other.Pool().Begin(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = tx.Rollback(context.WithoutCancel(t.Context())) })
		if slot(tx) != slot(s.Pool()) {
			return tx
		}
		if err := tx.Conn().Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// A person with a SQL shell cannot make the number wrong.
func TestCountOfDeadLettersStaysTrue(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	cfg := config(url)
	cfg.MaxDead = 10
	s := opened(t, cfg)
	conn := testenv.Connect(t, url)
	for _, statement := range []string{
		`INSERT INTO fraiseql_observer.tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at, error, attempts)
SELECT 'k' || i, CASE WHEN i % 2 = 0 THEN 'dead' ELSE 'scheduled' END, 'notify', 0, '', '', now(), now(), now(), '', '[]' FROM generate_series(1, 40) AS i`,
		"UPDATE fraiseql_observer.tb_delivery SET state = 'dead' WHERE key IN ('k1', 'k2', 'k3')",
		"UPDATE fraiseql_observer.tb_delivery SET state = 'scheduled' WHERE key IN ('k4', 'k5')",
		"UPDATE fraiseql_observer.tb_delivery SET error = 'x'",
		"DELETE FROM fraiseql_observer.tb_delivery WHERE key < 'k2'",
		"BEGIN; DELETE FROM fraiseql_observer.tb_delivery; ROLLBACK",
		"DELETE FROM fraiseql_observer.tb_delivery",
		"INSERT INTO fraiseql_observer.tb_delivery SELECT 'k', 'dead', '', 0, '', '', now(), now(), now(), '', now(), '', NULL, '[]'",
		"TRUNCATE fraiseql_observer.tb_delivery",
	} {
		testenv.Exec(t, conn, statement)
		wantTrueCount(t, conn, statement)
	}
	for i := range 11 {
		if _, err := s.InsertDeliveries(t.Context(), deadLetter(strconv.Itoa(i))); errors.Is(err, observer.ErrFull) != (i == 10) {
			t.Errorf("insert %d: got error %v", i, err)
		}
	}
	wantTrueCount(t, conn, "filling it")
}
