package postgres_test

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres"
)

// plan is a node of EXPLAIN (FORMAT JSON).
type plan struct {
	Node     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Hit      int    `json:"Shared Hit Blocks"`
	Read     int    `json:"Shared Read Blocks"`
	Rows     int    `json:"Actual Rows"`
	Plans    []plan `json:"Plans"`
}

// scans are the kinds of nodes that read the log.
func (p plan) scans() (kinds []string) {
	if p.Relation == "tb_entity_change_log" && p.Node != "ModifyTable" {
		kinds = append(kinds, p.Node)
	}
	for _, child := range p.Plans {
		kinds = append(kinds, child.scans()...)
	}
	return kinds
}

// explain runs a query that was prepared.
func explain(t *testing.T, conn *pgx.Conn, name, arguments string) plan {
	t.Helper()
	raw := testenv.Value[[]byte](t, conn, "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE "+name+"("+arguments+")")
	var plans []struct{ Plan plan }
	if err := json.Unmarshal(raw, &plans); err != nil {
		t.Fatal(err)
	}
	return plans[0].Plan
}

// asReader is a session like that of a reader that came while the log was empty:
// what it prepared was planned then.
func (d *database) asReader(t *testing.T) *pgx.Conn {
	t.Helper()
	queries, err := d.source().QueriesOf(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, d.url)
	testenv.Exec(t, conn, queries.Set)
	testenv.Exec(t, conn, "PREPARE next AS "+queries.Next)
	testenv.Exec(t, conn, "PREPARE poll AS "+queries.Poll)
	testenv.Exec(t, conn, "PREPARE prune AS "+queries.Prune)
	testenv.Exec(t, conn, "EXECUTE next(0, 500); EXECUTE poll('{1}', '{1}', 0, 500); EXECUTE prune(0, 1, 'infinity', 500)")
	return conn
}

// A poll reads what is new and next to nothing else: not the rows that were read
// before, not those that were pruned while an old snapshot can see them, and
// whether or not the server knows how large the table is.
func TestPollCost(t *testing.T) {
	t.Parallel()
	for _, analysed := range []bool{true, false} {
		t.Run(fmt.Sprintf("analysed %t", analysed), func(t *testing.T) {
			t.Parallel()
			d := newDatabase(t)
			d.must(t, "ALTER TABLE "+logTable+" SET (autovacuum_enabled = false)")
			conn := d.asReader(t)
			fill := func(from, to int) { // every 100th key is not used
				d.must(t, fmt.Sprintf(`INSERT INTO %s (pk_entity_change_log, object_type, modification_type, object_data) OVERRIDING SYSTEM VALUE
 SELECT n, 'Order', 'INSERT', '{"status": "new"}' FROM generate_series(%d, %d) AS n WHERE n %% 100 <> 0`, logTable, from, to))
			}
			fill(1, 200_000)
			old := testenv.Connect(t, d.url)
			testenv.Exec(t, old, "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM "+logTable)
			d.must(t, "DELETE FROM "+logTable+" WHERE pk_entity_change_log < 150000")
			fill(200_001, 210_010)
			if analysed {
				d.must(t, "ANALYZE "+logTable)
			}
			var holes []string
			for n := 200_100; n <= 202_000; n += 100 {
				holes = append(holes, strconv.Itoa(n))
			}
			list := "'{" + strings.Join(holes, ",") + "}'"
			for _, c := range []struct {
				name, query, arguments string
				rows, blocks           int
			}{
				{"nothing", "next", "210010, 500", 0, 10},
				{"10 rows", "next", "210000, 500", 10, 20},
				{"a batch", "next", "200001, 500", 500, 100},
				{"20 holes, nothing", "poll", list + ", " + list + ", 210010, 500", 0, 100},
				{"20 holes, 10 rows", "poll", list + ", " + list + ", 210000, 500", 10, 110},
				{"a wide hole", "poll", "'{200101}', '{209999}', 210010, 500", 500, 150},
			} {
				got := explain(t, conn, c.query, c.arguments)
				if got.Rows != c.rows || got.Hit+got.Read > c.blocks {
					t.Errorf("%s: %d rows from %d blocks, want %d from %d at most", c.name, got.Rows, got.Hit+got.Read, c.rows, c.blocks)
				}
				for _, kind := range got.scans() {
					if kind != "Index Scan" && kind != "Index Only Scan" {
						t.Errorf("%s: %s of the log", c.name, kind)
					}
				}
				t.Logf("%s: %d blocks, %v", c.name, got.Hit+got.Read, got.scans())
			}
			// Pruning goes on above the rows that are gone and still in the index.
			got := explain(t, conn, "prune", "149999, 210010, 'infinity', 500")
			if blocks := got.Hit + got.Read; blocks > 8*500 {
				t.Errorf("a batch of pruning: %d blocks", blocks)
			} else {
				t.Logf("a batch of pruning: %d blocks", blocks)
			}
			if n := testenv.Value[int](t, old, "SELECT count(*) FROM "+logTable); n != 198_000 {
				t.Fatalf("the old snapshot sees %d rows", n)
			}
		})
	}
}

// A backlog is read in pieces, whatever its size and that of its rows.
func TestBacklogMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("300,000 rows")
	}
	t.Parallel()
	d := newDatabase(t)
	const rows = 300_000
	// Large rows come alone and, between 100,000 and 101,500, one after the other.
	d.must(t, fmt.Sprintf(`INSERT INTO %s (object_type, modification_type, entity_key, object_data)
 SELECT 'Order', 'INSERT', n::text, jsonb_build_object('text', repeat('x', CASE WHEN n %% 1000 = 0 OR n BETWEEN 100000 AND 101500 THEN 100000 ELSE 200 END))
   FROM generate_series(1, %d) AS n`, logTable, rows))
	s, err := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(d.url)}).Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close(t.Context()) }()
	var most, now runtime.MemStats
	runtime.ReadMemStats(&now)
	before := now.HeapAlloc
	for i := range rows {
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if m.Event.EntityID != strconv.Itoa(i+1) {
			t.Fatalf("row %d is %s", i+1, m.Event.EntityID)
		}
		if i%2000 == 0 || i > 100_000 && i < 101_500 && i%100 == 0 {
			if runtime.ReadMemStats(&now); now.HeapAlloc > most.HeapAlloc {
				most = now
			}
		}
	}
	const bound = 100 << 20 // of 300 MB
	if most.HeapAlloc > before+bound {
		t.Errorf("%d MB of heap", most.HeapAlloc>>20)
	}
	t.Logf("%d MB of heap at most, %d before", most.HeapAlloc>>20, before>>20)
}

// BenchmarkEventCost reads the newest events of logs of different sizes: what one
// of them costs does not depend on how many came before.
func BenchmarkEventCost(b *testing.B) {
	for _, size := range []int{10_000, 1_000_000} {
		b.Run(fmt.Sprintf("%d rows", size), func(b *testing.B) {
			d := newDatabase(b)
			fill := func(n int) {
				d.must(b, fmt.Sprintf(`INSERT INTO %s (object_type, modification_type, entity_key, object_data)
 SELECT 'Order', 'INSERT', n::text, '{"status": "new", "total": 100}' FROM generate_series(1, %d) AS n`, logTable, n))
			}
			d.must(b, "ALTER TABLE "+logTable+" SET (autovacuum_enabled = false)") // not while it is measured
			fill(size)
			d.must(b, "CHECKPOINT")
			src := postgres.New(postgres.Config{Name: "shop", URL: observer.NewSecret(d.url)})
			const events = 20_000
			head, err := src.Head(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			fill(events)
			for b.Loop() {
				s, err := src.Open(b.Context(), head)
				if err != nil {
					b.Fatal(err)
				}
				for range events {
					if _, err := s.Next(b.Context()); err != nil {
						b.Fatal(err)
					}
				}
				if err := s.Close(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/events, "ns/event")
		})
	}
}
