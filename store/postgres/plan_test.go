package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
)

// manyRows fills a table with 50,000 rows: every state, 10 endpoints, lanes.
const manyRows = `
INSERT INTO fraiseql_observer.tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at, error, attempts,
    endpoint, lane, blocks, event_id, error_print)
SELECT 'k' || i, (ARRAY['dead', 'scheduled', 'queued', 'done', 'parked'])[i % 5 + 1], 'notify', 0, '', '',
    now() - i * interval '1 second', now() - i * interval '1 second', now() - i * interval '1 second', '', '[]',
    'e' || i % 10, CASE WHEN i % 5 IN (2, 4) THEN 'l' || i % 1000 / 5 ELSE '' END, i % 5 IN (2, 4), 'v' || i, ''
FROM generate_series(1, 50000) AS i`

// TestStatementsReadLittle holds that the statements of the worker find their
// rows by an index alone, in a table with 50,000 rows, before and after PostgreSQL
// knows its size.
func TestStatementsReadLittle(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	s := opened(t, config(url))
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "ALTER TABLE fraiseql_observer.tb_delivery SET (autovacuum_enabled = off)")
	testenv.Exec(t, conn, manyRows)
	queues, endpoints, priorities, starts := bandArrays(10)
	for _, analyzed := range []bool{false, true} {
		if analyzed {
			testenv.Exec(t, conn, "ANALYZE fraiseql_observer.tb_delivery")
		}
		for name, test := range map[string]struct {
			index string
			sql   string
			args  []any
		}{
			"claim":               {"tb_delivery_pkey", postgres.ClaimSQL, []any{nil, "k77", 1, "a"}},
			"claim a dead letter": {"tb_delivery_pkey", postgres.ClaimDeadSQL, []any{nil, "k75", 1, "a", ""}},
			"repeated update": {"tb_delivery_pkey", postgres.WhyNotSQL,
				[]any{nil, []string{"k77"}, []string{"a"}, []string{""}, []string{"done"}, []string{"[]"}}},
			"abandoned lanes": {"idx_delivery_redriven", postgres.AbandonedSQL, []any{nil}},
			"unblock":         {"idx_delivery_redriven", postgres.UnblockSQL, []any{nil, []string{"l77"}}},
			"claim due": {"idx_delivery_due", postgres.ClaimDueSQL,
				[]any{nil, "a", 1, 10, queues, endpoints, priorities, starts, slices.Repeat([]int64{2}, 10), priorities, priorities}},
			"next due": {"idx_delivery_due", postgres.NextDueSQL, []any{nil, queues, endpoints, priorities, starts}},
			"release":  {"idx_delivery_lane", postgres.ReleaseSQL, []any{nil, []string{"l77", "l78", "nobody's"}}},
			"blocked":  {"idx_delivery_lane", postgres.BlockedSQL, []any{"l77", "v1"}},
			"prune":    {"idx_delivery_finished", postgres.PruneSQL(), []any{nil, "-infinity", "infinity", 10}},
			"page of dead letters": {"idx_delivery_dead",
				"SELECT key FROM {{schema}}.tb_delivery WHERE state = 'dead' ORDER BY created_at, ordinal OFFSET 0 LIMIT $1", []any{50}},
		} {
			plan := explain(t, conn, s, test.sql, test.args)
			if pages := touched(t, plan); pages > 300 {
				t.Errorf("%s, statistics %t: touches %d pages, want at most 300:\n%s", name, analyzed, pages, plan)
			}
			wantIndexOnly(t, fmt.Sprintf("%s, statistics %t", name, analyzed), plan, test.index)
		}
	}
}

func bandArrays(n int) (queues, endpoints []string, priorities []int32, starts []string) {
	for i := range n {
		endpoints = append(endpoints, fmt.Sprint("e", i))
	}
	return make([]string, n), endpoints, make([]int32, n), slices.Repeat([]string{"-infinity"}, n)
}

// wantIndexOnly checks that a plan finds the rows of the deliveries by an index,
// in its order, this one among them.
func wantIndexOnly(t *testing.T, name, plan, index string) {
	t.Helper()
	if !strings.Contains(plan, "using "+index+" on tb_delivery") {
		t.Errorf("%s: does not use %s:\n%s", name, index, plan)
	}
	for line := range strings.Lines(plan) {
		if strings.Contains(line, "Seq Scan on tb_delivery") || strings.Contains(line, "Bitmap Heap Scan on tb_delivery") {
			t.Errorf("%s: reads the table, not an index:\n%s", name, plan)
		}
	}
}

// explain runs a statement with the settings of the store in a transaction that
// is rolled back, and gives its plan.
func explain(t testing.TB, conn *pgx.Conn, s *postgres.Store, sql string, args []any) string {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer tx.Rollback(t.Context()) //nolint:errcheck // the connection is checked by its next use
	if _, err := tx.Exec(t.Context(), postgres.SettingsSQL); err != nil {
		t.Fatal(err)
	}
	rows, err := tx.Query(t.Context(), "EXPLAIN (ANALYZE, BUFFERS) "+s.SQL(sql), slices.Concat([]any{pgx.QueryExecModeDescribeExec}, args)...)
	if err != nil {
		t.Fatal(err)
	}
	lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatalf("%v\nin %s", err, sql)
	}
	return strings.Join(lines, "\n")
}

// touched is the number of pages that a plan touched.
func touched(t testing.TB, plan string) int {
	t.Helper()
	for line := range strings.Lines(plan) { // the first is about the whole statement
		_, counts, found := strings.Cut(line, "Buffers: ")
		if !found {
			continue
		}
		var hit, read int
		for field := range strings.FieldsSeq(counts) {
			_, _ = fmt.Sscanf(field, "hit=%d", &hit)
			_, _ = fmt.Sscanf(field, "read=%d", &read)
		}
		return hit + read
	}
	t.Fatalf("no pages in the plan:\n%s", plan)
	return 0
}
