package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func newStore() *memorystore.Store { return memorystore.New(memorystore.Config{}) }

// made is a delivery of an event of its own, due now.
func made(id string, state observer.State, change ...func(*observer.Delivery)) *observer.Delivery {
	d := observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: "1"}, "o", 0, "test")
	d.State, d.RunAt = state, time.Now()
	for _, c := range change {
		c(d)
	}
	return d
}

func to(endpoint string) func(*observer.Delivery) {
	return func(d *observer.Delivery) { d.Endpoint = endpoint }
}

func in(queue string) func(*observer.Delivery) {
	return func(d *observer.Delivery) { d.Queue = queue }
}

func at(due time.Time) func(*observer.Delivery) {
	return func(d *observer.Delivery) { d.RunAt = due }
}

func strict(d *observer.Delivery) { d.Order = observer.OrderStrict }

// put stores deliveries and gives the key of the first.
func put(t *testing.T, store observer.DeliveryStore, ds ...*observer.Delivery) string {
	t.Helper()
	if _, err := store.InsertDeliveries(t.Context(), ds...); err != nil {
		t.Fatal(err)
	}
	return ds[0].Key
}

// many are deliveries to an endpoint.
func many(n int, endpoint string, change ...func(*observer.Delivery)) []*observer.Delivery {
	var ds []*observer.Delivery
	for i := range n {
		ds = append(ds, made(fmt.Sprintf("%s-%d", endpoint, i), observer.Queued, append([]func(*observer.Delivery){to(endpoint)}, change...)...))
	}
	return ds
}

func stored(t *testing.T, store observer.DeliveryStore, key string) *observer.Delivery {
	t.Helper()
	d, err := store.Delivery(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func states(t *testing.T, store observer.DeliveryStore) map[observer.State]int {
	t.Helper()
	stats, err := store.DeliveryStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return stats.States
}

// ran remembers when what was run, and how much at a time.
type ran struct {
	end func(ctx context.Context, d *observer.Delivery) error

	began time.Time
	mu    sync.Mutex
	runs  []string
	times map[string][]time.Duration // by endpoint
	now   map[string]int             // by endpoint, by queue, and in all
	most  map[string]int
}

func newRan(end func(ctx context.Context, d *observer.Delivery) error) *ran {
	if end == nil {
		end = succeed
	}
	return &ran{end: end, began: time.Now(), times: map[string][]time.Duration{}, now: map[string]int{}, most: map[string]int{}}
}

func succeed(_ context.Context, d *observer.Delivery) error {
	d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
	d.Succeed()
	return nil
}

func takes(long time.Duration) func(context.Context, *observer.Delivery) error {
	return func(ctx context.Context, d *observer.Delivery) error {
		select {
		case <-time.After(long):
			return succeed(ctx, d)
		case <-ctx.Done():
			d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1, Error: "cut off"})
			d.Retry(errors.New("cut off"), time.Now())
			return nil
		}
	}
}

func (r *ran) run(ctx context.Context, d *observer.Delivery) error {
	all := []string{d.Endpoint, "queue " + d.Queue, "all"}
	r.mu.Lock()
	since := time.Since(r.began)
	r.runs = append(r.runs, fmt.Sprintf("%s at %s", d.Event.ID, since.Round(time.Millisecond)))
	r.times[d.Endpoint] = append(r.times[d.Endpoint], since)
	for _, name := range all {
		r.now[name]++
		r.most[name] = max(r.most[name], r.now[name])
	}
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		for _, name := range all {
			r.now[name]--
		}
		r.mu.Unlock()
	}()
	return r.end(ctx, d)
}

// atOnce is how many ran at once at most to an endpoint, of a "queue x", or in
// "all".
func (r *ran) atOnce(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.most[name]
}

func (r *ran) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.runs))
}

func (r *ran) timesOf(endpoint string) []time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.times[endpoint])
}

// begin starts a worker. stop has it drain and end.
func begin(t *testing.T, cfg delivery.WorkerConfig) (w *delivery.Worker, stop func()) {
	t.Helper()
	cfg.Owner, cfg.Logger = "w1", quiet()
	if cfg.DrainTimeout == 0 {
		cfg.DrainTimeout = 10 * time.Second
	}
	w = delivery.NewWorker(cfg)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}
}

func work(t *testing.T, store observer.DeliveryStore, r *ran) (w *delivery.Worker, stop func()) {
	t.Helper()
	return begin(t, delivery.WorkerConfig{Store: store, Run: r.run})
}

// flaky is a store that is away for a while, and counts what it is asked.
type flaky struct {
	*memorystore.Store
	until         atomic.Pointer[time.Time]
	claims, nexts atomic.Int64
}

func (f *flaky) away(d time.Duration) {
	until := time.Now().Add(d)
	f.until.Store(&until)
}

func (f *flaky) err() error {
	if until := f.until.Load(); until != nil && time.Now().Before(*until) {
		return errors.New("no space left on device")
	}
	return nil
}

func (f *flaky) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.UpdateDelivery(ctx, d, owner)
}

func (f *flaky) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.ExtendLease(ctx, key, owner, lease)
}

func (f *flaky) ClaimDue(ctx context.Context, c observer.Claim) ([]*observer.Delivery, error) {
	f.claims.Add(1)
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.ClaimDue(ctx, c)
}

func (f *flaky) NextDue(ctx context.Context, room observer.Room) (time.Time, error) {
	f.nexts.Add(1)
	if err := f.err(); err != nil {
		return time.Time{}, err
	}
	return f.Store.NextDue(ctx, room)
}

func (f *flaky) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.ClaimDelivery(ctx, key, owner, lease)
}

func (f *flaky) Endpoints(ctx context.Context) ([]observer.Endpoint, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Endpoints(ctx)
}

func (f *flaky) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.SaveEndpoint(ctx, e)
}
