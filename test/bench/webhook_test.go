package bench

import (
	"bytes"
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	postgresstore "github.com/fraiseql/observer/store/postgres"
)

const (
	// changes is how many webhooks one round sends, by each side.
	changes = 3000
	// concurrency is max_concurrency of the daemon and the number of workers of
	// the bare client.
	concurrency = 50
)

// BenchmarkWebhookAgainstBareClient sends the changes of a change log by the
// daemon, and the same bodies by a bare HTTP client with as many workers, to the
// same receiver. One operation is a round of both, in alternating order. Rates
// run from the first request to the last one, so neither side is charged for its
// start. The processor time of a call includes the receiver's part, and not that
// of a PostgreSQL server; the ratio of these is the one to trust on a busy
// machine.
func BenchmarkWebhookAgainstBareClient(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { againstBareClient(b, sqliteShop) })
	b.Run("postgres", func(b *testing.B) { againstBareClient(b, postgresShop) })
}

// shop makes a database with a change log that holds the changes, and gives the
// configuration of it and of the state.
type shop func(b *testing.B) string

func sqliteShop(b *testing.B) string {
	b.Helper()
	path := newDatabase(b)
	insert(b, path, changes)
	return fmt.Sprintf("[[databases]]\nname = \"shop\"\nurl = 'sqlite:%s'\n", path)
}

func postgresShop(b *testing.B) string {
	b.Helper()
	url := testenv.Database(b)
	for _, err := range []error{
		changelog.Migrate(b.Context(), url, changelog.Options{}),
		postgresstore.Migrate(b.Context(), url, postgresstore.DefaultSchema),
	} {
		if err != nil {
			b.Fatal(err)
		}
	}
	fillLog(b, testenv.Connect(b, url), changes)
	return fmt.Sprintf("[[databases]]\nname = \"shop\"\nurl = '%s'\n", url)
}

func againstBareClient(b *testing.B, stock shop) {
	b.Helper()
	var daemons, bares []measure
	for round := 0; b.Loop(); round++ {
		recv := newReceiver(b)
		var daemon, bare measure
		if round%2 == 0 {
			daemon = daemonRound(b, stock, recv)
			bare = bareRound(b, recv, recv.take())
		} else {
			bare = bareRound(b, recv, bodiesOf(b, stock))
			recv.take()
			daemon = daemonRound(b, stock, recv)
		}
		recv.server.Close()
		daemons, bares = append(daemons, daemon), append(bares, bare)
	}
	report(b, "daemon/s", each(daemons, bares, func(d, _ measure) float64 { return d.rate }))
	report(b, "bare/s", each(daemons, bares, func(_, c measure) float64 { return c.rate }))
	report(b, "ratio", each(daemons, bares, func(d, c measure) float64 { return d.rate / c.rate }))
	if cpuTime() > 0 {
		report(b, "daemon-cpu-us", each(daemons, bares, func(d, _ measure) float64 { return d.cpu }))
		report(b, "bare-cpu-us", each(daemons, bares, func(_, c measure) float64 { return c.cpu }))
		report(b, "cpu-ratio", each(daemons, bares, func(d, c measure) float64 { return c.cpu / d.cpu }))
	}
}

// measure is one side of one round.
type measure struct {
	rate float64 // calls per second
	cpu  float64 // processor time of a call in microseconds
}

func each(daemons, bares []measure, f func(daemon, bare measure) float64) []float64 {
	values := make([]float64, len(daemons))
	for i := range daemons {
		values[i] = f(daemons[i], bares[i])
	}
	return values
}

// report gives the median and, over several rounds, the spread.
func report(b *testing.B, unit string, values []float64) {
	b.Helper()
	slices.Sort(values)
	b.ReportMetric(values[len(values)/2], unit)
	if len(values) > 1 {
		b.ReportMetric(values[0], unit+"-min")
		b.ReportMetric(values[len(values)-1], unit+"-max")
	}
}

// receiver accepts everything and keeps the bodies.
type receiver struct {
	server *httptest.Server
	mu     sync.Mutex
	bodies [][]byte
	first  time.Time
	last   time.Time
	full   chan struct{}
}

func newReceiver(b *testing.B) *receiver {
	b.Helper()
	r := &receiver{full: make(chan struct{}, 1)}
	r.server = httptest.NewServer(r)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	w.WriteHeader(http.StatusNoContent)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if len(r.bodies) == 0 {
		r.first = r.last
	}
	if r.bodies = append(r.bodies, body); len(r.bodies) == changes {
		r.full <- struct{}{}
	}
}

// measure waits for the last request. before is the processor time at the
// start.
func (r *receiver) measure(b *testing.B, before time.Duration) measure {
	b.Helper()
	select {
	case <-r.full:
	case <-time.After(time.Minute):
		b.Fatal("not every request arrived within a minute")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return measure{
		rate: float64(changes-1) / r.last.Sub(r.first).Seconds(),
		cpu:  float64((cpuTime() - before).Nanoseconds()) / 1000 / changes,
	}
}

// take gives the bodies and begins anew.
func (r *receiver) take() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	bodies := r.bodies
	r.bodies = nil
	return bodies
}

// bodiesOf has the daemon make the bodies for a bare round that comes first.
func bodiesOf(b *testing.B, stock shop) [][]byte {
	b.Helper()
	recv := newReceiver(b)
	defer recv.server.Close()
	daemonRound(b, stock, recv)
	return recv.take()
}

// daemonRound has the daemon deliver a change log that is there already, with
// a log line for each delivery as in production.
func daemonRound(b *testing.B, stock shop, recv *receiver) measure {
	b.Helper()
	databases := stock(b)
	cfg, err := config.Parse(filepath.Join(b.TempDir(), "fraiseql-observer.toml"), fmt.Appendf(nil, `%s
[network]
allow = ["127.0.0.0/8"]
[performance]
max_concurrency = %d
[[observers]]
name = "every-order"
entity = "Order"
[[observers.actions]]
type = "webhook"
url = "%s"
`, databases, concurrency, recv.server.URL), nil)
	if err != nil {
		b.Fatal(err)
	}
	daemon, err := app.New(b.Context(), app.Options{Config: cfg, Logger: production()})
	if err != nil {
		b.Fatal(err)
	}
	before := cpuTime()
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- daemon.Run(ctx) }()
	sent := recv.measure(b, before)
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return sent
}

// production is a log that is formatted and goes nowhere.
func production() *slog.Logger {
	return slog.New(slog.NewTextHandler(io.Discard, nil)) //nolint:sloglint // DiscardHandler formats nothing, and the cost of a line is part of the measure
}

// bareRound posts bodies with nothing but net/http.
func bareRound(b *testing.B, recv *receiver, bodies [][]byte) measure {
	b.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	defer client.CloseIdleConnections()
	queue := make(chan []byte, len(bodies))
	for _, body := range bodies {
		queue <- body
	}
	close(queue)
	before := cpuTime()
	var workers sync.WaitGroup
	for range concurrency {
		workers.Go(func() {
			for body := range queue {
				if err := post(b.Context(), client, recv.server.URL, body); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	workers.Wait()
	return recv.measure(b, before)
}

func post(ctx context.Context, client *http.Client, url string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	return resp.Body.Close()
}

// newDatabase makes a database with a captured table.
func newDatabase(b *testing.B) string {
	b.Helper()
	path := filepath.Join(b.TempDir(), "shop.db")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		b.Fatal(err)
	}
	execute(b, path, `CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT, total REAL, note TEXT)`)
	if _, err := sqlitesource.AddCapture(b.Context(), path, sqlitesource.Capture{Table: "orders", Entity: "Order"}); err != nil {
		b.Fatal(err)
	}
	return path
}

// insert commits n orders.
func insert(b *testing.B, path string, n int) {
	b.Helper()
	execute(b, path, fmt.Sprintf(`WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO orders (status, total, note) SELECT 'new', i / 100.0, '%s' FROM n`, n, strings.Repeat("x", 100)))
}

func execute(b *testing.B, path, query string) {
	b.Helper()
	db, err := sql.Open("sqlite", path+"?_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(b.Context(), query); err != nil {
		b.Fatal(err)
	}
}
