package bench

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	postgressource "github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// tail is how many new rows are read from behind a log that was read before.
const tail = 10_000

// BenchmarkPostgresLogSize reads logs of ten thousand rows, a hundred times as
// many, and so on up to a million, or what LOG_ROWS says: from the beginning, and the ten thousand
// newest from the position of what was there before them. Both are given as
// the time for one event; neither may grow with the log. Ten million rows take
// some minutes to write and 6 GB.
func BenchmarkPostgresLogSize(b *testing.B) {
	url := testenv.Database(b)
	if err := changelog.Migrate(b.Context(), url, changelog.Options{}); err != nil {
		b.Fatal(err)
	}
	conn := testenv.Connect(b, url)
	largest := 1_000_000
	if text := os.Getenv("LOG_ROWS"); text != "" {
		var err error
		if largest, err = strconv.Atoi(text); err != nil {
			b.Fatal("LOG_ROWS:", err)
		}
	}
	written := 0
	for _, size := range []int{10_000, 1_000_000, 10_000_000} {
		if size > largest {
			return
		}
		fillLog(b, conn, size-written)
		written = size
		testenv.Exec(b, conn, "VACUUM ANALYZE core.tb_entity_change_log")
		b.Run(fmt.Sprintf("rows=%d", size), func(b *testing.B) {
			var all, newest []float64
			for b.Loop() {
				all = append(all, microseconds(readAfter(b, url, observer.Checkpoint{}, written), written))
				took := newRows(b, url, conn)
				written += tail
				newest = append(newest, microseconds(took, tail))
			}
			report(b, "us/event", all)
			report(b, "us/new-event", newest)
		})
	}
}

func microseconds(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }

// newRows appends and reads tail rows.
func newRows(b *testing.B, url string, conn *pgx.Conn) time.Duration {
	b.Helper()
	source := postgressource.New(postgressource.Config{Name: "shop", URL: observer.NewSecret(url)})
	head, err := source.Head(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	fillLog(b, conn, tail)
	return readAfter(b, url, observer.Checkpoint{Position: head}, tail)
}

// readAfter relays the n rows after a checkpoint to a handler that does nothing.
func readAfter(b *testing.B, url string, cp observer.Checkpoint, n int) time.Duration {
	b.Helper()
	store := memorystore.New(memorystore.Config{})
	if err := store.SaveCheckpoint(b.Context(), "shop", cp); err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	relayed(b, postgressource.New(postgressource.Config{Name: "shop", URL: observer.NewSecret(url)}), store, n)
	return time.Since(begin)
}
