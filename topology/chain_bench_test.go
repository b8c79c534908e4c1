package topology

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/otter"
	"github.com/fraiseql/observer/template"
)

// nothing is an action with a receiver, that does nothing.
type nothing struct{}

func (nothing) Prepare(context.Context, *observer.Delivery) error { return nil }
func (nothing) Endpoint(context.Context, *observer.Delivery) string {
	return "webhook https://example.com/hook"
}

func (nothing) Execute(context.Context, *observer.Delivery) (observer.Result, error) {
	return observer.Result{Status: 200}, nil
}

// BenchmarkEveryLayer is the cost of all layers there are for a delivery that
// succeeds, over an action that does nothing, without network, disk and log: on the
// first pass, with deduplication in memory, and from the store. The cache, by a
// key, has no result.
func BenchmarkEveryLayer(b *testing.B) {
	b.Run("first pass", func(b *testing.B) {
		l, o := everyLayer(b)
		prints := []string{o.Actions[0].Print()}
		run := l.firstPass(o, o.Actions[0], nothing{}, middleware.NewCrowd(4), planOf(o, o.Actions[0], prints)).Run
		n := 0
		deliver(b, func(ctx context.Context, d *observer.Delivery) error {
			if n++; n%200 == 0 { // else the marks of all deliveries before would be what is measured
				if _, err := l.dedup.Store.(*memorystore.Store).PruneDedup(ctx, 200); err != nil {
					return err
				}
			}
			_, err := run.Execute(ctx, d)
			return err
		})
	})
	b.Run("from the store", func(b *testing.B) {
		l, o := everyLayer(b)
		stored := l.storedAction(o, o.Actions[0], nothing{}, nil)
		deliver(b, func(ctx context.Context, d *observer.Delivery) error {
			admitted, leave, _ := l.traffic.Admit(ctx, nothing{}.Endpoint(ctx, d)) // as a worker does
			defer leave()
			return stored.execute(admitted, d)
		})
	})
}

func deliver(b *testing.B, run func(context.Context, *observer.Delivery) error) {
	b.Helper()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		id := strconv.Itoa(n)
		e := &observer.Event{ID: id, Operation: observer.Update, EntityType: "Product", EntityID: id, Data: []byte(`{"shop":7,"name":"Bread"}`)}
		d := observer.NewDelivery(e, "o", 0, "webhook")
		if err := run(b.Context(), d); err != nil || d.State != observer.Done {
			b.Fatalf("%s, error %v", d.State, err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N), "ns/delivery")
}

// everyLayer is a process and an observer whose only action has all layers.
func everyLayer(b *testing.B) (*layers, config.Observer) {
	b.Helper()
	key, err := template.Compile("{{ event.id }}", template.Text)
	if err != nil {
		b.Fatal(err)
	}
	memory, err := otter.New(otter.Config[middleware.CachedResult]{MaxEntries: 1000})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = memory.Close() })
	cfg := &config.Config{
		Performance: config.Performance{ConcurrentTimeout: time.Minute, EnableCaching: true, EnableDedup: true},
		Breaker:     config.Breaker{Enabled: true, FailureRate: 50, MinCalls: 50, Window: 30 * time.Second, OpenFor: 30 * time.Second, Probes: 3},
		Limits:      config.Limits{MaxConcurrent: 100, Rate: 1e9, Burst: 1e6}, // which is never reached
	}
	logger, store, counters := slog.New(slog.DiscardHandler), memorystore.New(memorystore.Config{}), &middleware.Counters{}
	endpoints, traffic := (&Topology{Store: store, Counters: counters, logger: logger}).trafficOf(cfg, nil)
	l := &layers{
		cfg: cfg, begun: b.Context(), store: store, observe: middleware.Observer{Logger: logger, Counters: counters}, logger: logger,
		endpoints: endpoints, traffic: traffic,
		worker:  delivery.NewWorker(delivery.WorkerConfig{Store: store, Endpoints: endpoints, Owner: "bench", Logger: logger}),
		dedup:   &middleware.Dedup{Store: store, Owner: "bench", Lease: dedupLease, Keep: time.Millisecond, Counters: counters, Logger: logger},
		results: middleware.NewResults(memory, counters), caches: &middleware.CacheStats{},
	}
	if l.stored, err = middleware.ReadStored(b.Context(), store); err != nil {
		b.Fatal(err)
	}
	a := config.Action{
		Type: "webhook", Mode: config.ModeInline, OnUnknown: config.OnUnknownRetry,
		Retry:    config.Retry{MaxAttempts: 3, Backoff: "exponential", InitialDelay: time.Second, MaxDelay: time.Minute, InlineBudget: 2 * time.Second},
		Cache:    config.ActionCache{On: true, TTL: time.Hour, Template: key},
		Fallback: &config.Fallback{When: config.WhenOpen, Action: config.Action{Type: "log"}},
	}
	o := config.Observer{Name: "o", OnFailure: "dlq", Order: observer.OrderEntity, Actions: []config.Action{a}}
	const all = 15
	if n := len(l.first(a, nothing{}, unmade)) + len(l.chain(o, a, nothing{}, middleware.DeadLetter{}, 0)); n != all {
		b.Fatalf("%d layers, want %d", n, all)
	}
	return l, o
}
