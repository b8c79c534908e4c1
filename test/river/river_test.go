package river

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/internal/testenv"
	postgresstore "github.com/fraiseql/observer/store/postgres"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	// jobs is how many one round enqueues and runs, by each side.
	jobs = 20_000
	// batch is how many are enqueued at a time.
	batch = 1000
	// trickle is how many single jobs the latency is measured with, pause the
	// time between two.
	trickle, pause = 300, 10 * time.Millisecond
)

// server is a PostgreSQL that syncs to the disk, as in production.
func server(b *testing.B) *testenv.Postgres {
	b.Helper()
	return testenv.PrivatePostgres(b, testenv.Options{
		Durable: true, Settings: map[string]string{"shared_buffers": "512MB", "max_wal_size": "4GB"},
	})
}

// side is one of the two that are compared.
type side interface {
	// enqueue stores n jobs in one call.
	enqueue(b *testing.B, n int)
	// run works until started has counted n more jobs and all outcomes are stored.
	run(b *testing.B, n int)
	// latency gives the time from enqueueing a job to its start, for jobs that
	// come one by one to idle workers.
	latency(b *testing.B) []time.Duration
}

// BenchmarkAgainstRiver enqueues jobs that do nothing, in batches, and then runs
// them all, so many at once. One operation is a round of both sides.
func BenchmarkAgainstRiver(b *testing.B) {
	for _, workers := range []int{100, 1000} {
		b.Run("workers="+strconv.Itoa(workers), func(b *testing.B) { against(b, workers) })
	}
}

func against(b *testing.B, workers int) {
	b.Helper()
	pg := server(b)
	sides := []side{newOurs(b, pg.Database(b), workers), newTheirs(b, pg.Database(b), workers)}
	var enqueued, ran [2][]float64
	for round := 0; b.Loop(); round++ {
		for i := range sides {
			which := (i + round) % 2
			begin := time.Now()
			for range jobs / batch {
				sides[which].enqueue(b, batch)
			}
			enqueued[which] = append(enqueued[which], jobs/time.Since(begin).Seconds())
			begin = time.Now()
			sides[which].run(b, jobs)
			ran[which] = append(ran[which], jobs/time.Since(begin).Seconds())
		}
	}
	report(b, "enqueue-ratio", ratios(enqueued))
	report(b, "run-ratio", ratios(ran))
	var both [2][]float64
	for i := range both {
		for round := range ran[i] {
			both[i] = append(both[i], 1/(1/enqueued[i][round]+1/ran[i][round]))
		}
	}
	report(b, "both-ratio", ratios(both))
	// The rounds are sorted from here on.
	report(b, "enqueue/s", enqueued[0])
	report(b, "river-enqueue/s", enqueued[1])
	report(b, "run/s", ran[0])
	report(b, "river-run/s", ran[1])
}

// BenchmarkLatencyAgainstRiver enqueues jobs one by one, with a pause between
// them.
func BenchmarkLatencyAgainstRiver(b *testing.B) {
	pg := server(b)
	us, them := newOurs(b, pg.Database(b), 100), newTheirs(b, pg.Database(b), 100)
	var ours, theirs []time.Duration
	for b.Loop() {
		ours = append(ours, us.latency(b)...)
		theirs = append(theirs, them.latency(b)...)
	}
	for name, list := range map[string][]time.Duration{"": ours, "river-": theirs} {
		slices.Sort(list)
		b.ReportMetric(float64(list[len(list)/2].Microseconds())/1000, name+"p50-ms")
		b.ReportMetric(float64(list[len(list)*99/100].Microseconds())/1000, name+"p99-ms")
	}
}

func ratios(rates [2][]float64) []float64 {
	list := make([]float64, len(rates[0]))
	for i := range list {
		list[i] = rates[0][i] / rates[1][i]
	}
	return list
}

// report gives the median of the rounds, with the lowest and the highest.
func report(b *testing.B, name string, rounds []float64) {
	b.Helper()
	slices.Sort(rounds)
	b.ReportMetric(rounds[len(rounds)/2], name)
	b.ReportMetric(rounds[0], name+"-min")
	b.ReportMetric(rounds[len(rounds)-1], name+"-max")
}

// ours is the delivery table and its worker.
type ours struct {
	workers int
	store   *postgresstore.Store
	next    int
	started atomic.Int64
	starts  chan time.Time
}

func newOurs(b *testing.B, url string, workers int) *ours {
	b.Helper()
	store, err := postgresstore.Open(b.Context(), postgresstore.Config{URL: observer.NewSecret(url)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = store.Close() })
	return &ours{workers: workers, store: store, starts: make(chan time.Time, trickle)}
}

// deliveries are like those of a webhook: an event with a small image and its
// rendered request.
func (o *ours) deliveries(n int) []*observer.Delivery {
	list := make([]*observer.Delivery, n)
	for i := range list {
		o.next++
		id := strconv.Itoa(o.next)
		list[i] = observer.NewDelivery(&observer.Event{
			ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: id,
			Data: []byte(`{"id":` + id + `}`), Timestamp: time.Now(),
		}, "jobs", 0, "test")
		list[i].Request = []byte(`{"id":` + id + `}`)
		list[i].Endpoint = "test example.com"
		list[i].Enqueue(time.Now())
	}
	return list
}

func (o *ours) enqueue(b *testing.B, n int) {
	b.Helper()
	if _, err := o.store.InsertDeliveries(b.Context(), o.deliveries(n)...); err != nil {
		b.Fatal(err)
	}
}

func (o *ours) worker(done func()) *delivery.Worker {
	logger := slog.New(slog.DiscardHandler)
	return delivery.NewWorker(delivery.WorkerConfig{
		Store: o.store, Owner: "bench", Concurrency: o.workers, BatchSize: o.workers, Logger: logger,
		Endpoints: delivery.NewEndpoints(delivery.EndpointsConfig{Store: o.store, Logger: logger}),
		Run: func(_ context.Context, d *observer.Delivery) error {
			d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1, At: time.Now()})
			d.Succeed()
			done()
			return nil
		},
	})
}

func (o *ours) run(b *testing.B, n int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	o.started.Store(0)
	w := o.worker(func() {
		if o.started.Add(1) == int64(n) {
			cancel()
		}
	})
	if err := w.Run(ctx); err != nil {
		b.Fatal(err)
	}
	stats, err := o.store.DeliveryStats(b.Context())
	if err != nil || stats.States[observer.Queued] != 0 || stats.States[observer.Running] != 0 {
		b.Fatalf("left %+v, %v", stats, err)
	}
}

func (o *ours) latency(b *testing.B) []time.Duration {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	w := o.worker(func() { o.starts <- time.Now() })
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	list := latencies(b, o.starts, func() { o.enqueue(b, 1); w.Wake() })
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
	return list
}

func latencies(b *testing.B, starts chan time.Time, enqueue func()) []time.Duration {
	b.Helper()
	var list []time.Duration
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for range trickle {
		<-tick.C
		begin := time.Now()
		enqueue()
		list = append(list, (<-starts).Sub(begin))
	}
	return list
}

// theirs is River.
type theirs struct {
	workers int
	pool    *pgxpool.Pool
	next    int
	started atomic.Int64
	want    atomic.Int64
	full    chan struct{}
	starts  chan time.Time
}

type args struct {
	ID string `json:"id"`
}

func (args) Kind() string { return "test" }

type worker struct {
	river.WorkerDefaults[args]
	t *theirs
}

func (w *worker) Work(context.Context, *river.Job[args]) error {
	n := w.t.started.Add(1)
	switch want := w.t.want.Load(); {
	case want == 0:
		w.t.starts <- time.Now()
	case n == want:
		w.t.full <- struct{}{}
	}
	return nil
}

func newTheirs(b *testing.B, url string, workers int) *theirs {
	b.Helper()
	pool, err := pgxpool.New(b.Context(), url+poolSize(url))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(pool.Close)
	migrator, err := rivermigrate.New(riverpgxv5.New(pool), &rivermigrate.Config{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	if _, err := migrator.Migrate(b.Context(), rivermigrate.DirectionUp, nil); err != nil {
		b.Fatal(err)
	}
	return &theirs{workers: workers, pool: pool, full: make(chan struct{}, 1), starts: make(chan time.Time, trickle)}
}

// poolSize gives River as many connections as the observer's store has.
func poolSize(url string) string {
	config, err := pgx.ParseConfig(url)
	if err != nil || config.RuntimeParams["pool_max_conns"] != "" {
		return ""
	}
	separator := "?"
	for _, c := range url {
		if c == '?' {
			separator = "&"
		}
	}
	return fmt.Sprintf("%spool_max_conns=%d", separator, 10)
}

func (t *theirs) client(b *testing.B) *river.Client[pgx.Tx] {
	b.Helper()
	all := river.NewWorkers()
	river.AddWorker(all, &worker{t: t})
	client, err := river.NewClient(riverpgxv5.New(t.pool), &river.Config{
		Queues:  map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: t.workers}},
		Workers: all,
		// By default it fetches ten times a second, which no comparison should
		// show; its own benchmark fetches as often as this.
		FetchCooldown: 2 * time.Millisecond, FetchPollInterval: 20 * time.Millisecond,
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		b.Fatal(err)
	}
	return client
}

func (t *theirs) insert(b *testing.B, client *river.Client[pgx.Tx], n int) {
	b.Helper()
	params := make([]river.InsertManyParams, n)
	for i := range params {
		t.next++
		params[i].Args = args{ID: strconv.Itoa(t.next)}
	}
	if _, err := client.InsertManyFast(b.Context(), params); err != nil {
		b.Fatal(err)
	}
}

func (t *theirs) enqueue(b *testing.B, n int) { b.Helper(); t.insert(b, t.client(b), n) }

func (t *theirs) run(b *testing.B, n int) {
	b.Helper()
	t.started.Store(0)
	t.want.Store(int64(n))
	client := t.client(b)
	if err := client.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	<-t.full
	if err := client.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	var left int
	if err := t.pool.QueryRow(b.Context(), "SELECT count(*) FROM river_job WHERE state <> 'completed'").Scan(&left); err != nil || left != 0 {
		b.Fatalf("River left %d jobs, %v", left, err)
	}
}

func (t *theirs) latency(b *testing.B) []time.Duration {
	b.Helper()
	t.want.Store(0)
	client := t.client(b)
	if err := client.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	list := latencies(b, t.starts, func() { t.insert(b, client, 1) })
	if err := client.Stop(b.Context()); err != nil {
		b.Fatal(err)
	}
	return list
}
