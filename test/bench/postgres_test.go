package bench

import (
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	postgressource "github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
	memorystore "github.com/fraiseql/observer/store/memory"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// logged is how many rows one round reads, by each side.
const logged = 200_000

// BenchmarkPostgresLogAgainstBareRead relays a PostgreSQL change log to a
// handler that does nothing, and reads the same rows with pgx, in batches of
// the same size over the key, into a slice that is thrown away. One operation is
// a round of both.
func BenchmarkPostgresLogAgainstBareRead(b *testing.B) {
	url := testenv.Database(b)
	if err := changelog.Migrate(b.Context(), url, changelog.Options{}); err != nil {
		b.Fatal(err)
	}
	conn := testenv.Connect(b, url)
	fillLog(b, conn, logged)
	testenv.Exec(b, conn, "VACUUM ANALYZE core.tb_entity_change_log")
	var events, rows []float64
	for round := 0; b.Loop(); round++ {
		if round%2 == 0 {
			events = append(events, logged/relayRound(b, url).Seconds())
			rows = append(rows, logged/bareReadRound(b, conn).Seconds())
		} else {
			rows = append(rows, logged/bareReadRound(b, conn).Seconds())
			events = append(events, logged/relayRound(b, url).Seconds())
		}
	}
	ratios := make([]float64, len(rows))
	for i := range rows {
		ratios[i] = events[i] / rows[i]
	}
	report(b, "events/s", events)
	report(b, "bare-rows/s", rows)
	report(b, "ratio", ratios)
}

// fillLog commits n changes.
func fillLog(b *testing.B, conn *pgx.Conn, n int) {
	b.Helper()
	testenv.Exec(b, conn, `INSERT INTO core.tb_entity_change_log (object_type, modification_type, entity_key, object_data)
		SELECT 'Order', 'INSERT', n::text, jsonb_build_object('id', n, 'status', 'new', 'total', n / 100.0, 'note', repeat('x', 100))
		  FROM generate_series(1, $1) AS n`, n)
}

func relayRound(b *testing.B, url string) time.Duration {
	b.Helper()
	source := postgressource.New(postgressource.Config{Name: "shop", URL: observer.NewSecret(url)})
	begin := time.Now()
	relayed(b, source, memorystore.New(memorystore.Config{}), logged)
	return time.Since(begin)
}

// bareRow is what an event is made of.
type bareRow struct {
	pk                         int64
	id, kind, verb, key, image *string
	created                    time.Time
}

func bareReadRound(b *testing.B, conn *pgx.Conn) time.Duration {
	b.Helper()
	const query = `SELECT pk_entity_change_log, id::text, object_type, modification_type, entity_key, object_data::text, created_at
  FROM core.tb_entity_change_log WHERE pk_entity_change_log > $1 ORDER BY pk_entity_change_log LIMIT 500`
	begin := time.Now()
	for last, n := int64(0), 0; n < logged; {
		rows, err := conn.Query(b.Context(), query, last)
		if err != nil {
			b.Fatal(err)
		}
		list, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (bareRow, error) {
			var row bareRow
			err := r.Scan(&row.pk, &row.id, &row.kind, &row.verb, &row.key, &row.image, &row.created)
			return row, err
		})
		if err != nil {
			b.Fatal(err)
		}
		n += len(list)
		last = list[len(list)-1].pk
	}
	return time.Since(begin)
}
