package topology

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/otter"
	"github.com/fraiseql/observer/template"
)

// unsent is a webhook that is not called.
type unsent struct{ *webhook.Action }

func (unsent) Execute(context.Context, *observer.Delivery) (observer.Result, error) {
	return observer.Result{Status: 200}, nil
}

// BenchmarkChain is the cost of a chain for a delivery, without breaker and limits,
// network and log: without a cache, and of a hit by the request and by a key.
func BenchmarkChain(b *testing.B) {
	key, err := template.Compile("{{ data.shop }}", template.Text)
	if err != nil {
		b.Fatal(err)
	}
	on := config.ActionCache{On: true, TTL: time.Hour}
	byKey := on
	byKey.Template = key
	for name, cache := range map[string]config.ActionCache{"no cache": {}, "hit by request": on, "hit by key": byKey} {
		b.Run(name, func(b *testing.B) { benchmarkChain(b, cache) })
	}
}

func benchmarkChain(b *testing.B, cache config.ActionCache) {
	b.Helper()
	memory, err := otter.New(otter.Config[middleware.CachedResult]{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = memory.Close() }()
	hook, err := webhook.New(webhook.Config{URL: "https://example.com/hook", BodyTemplate: `{"shop": {{ data.shop }}}`},
		outbound.New(outbound.Config{}).HTTPClient())
	if err != nil {
		b.Fatal(err)
	}
	counters := &middleware.Counters{}
	logger := slog.New(slog.DiscardHandler)
	l := &layers{
		cfg: &config.Config{Performance: config.Performance{EnableCaching: true, ConcurrentTimeout: time.Minute}}, begun: b.Context(),
		observe: middleware.Observer{Logger: logger, Counters: counters}, logger: logger,
		endpoints: delivery.NewEndpoints(delivery.EndpointsConfig{Store: memorystore.New(memorystore.Config{}), Logger: logger}),
		traffic:   middleware.NewTraffic(middleware.TrafficConfig{Logger: logger}),
		results:   middleware.NewResults(memory, counters), caches: &middleware.CacheStats{},
	}
	act := unsent{hook}
	run := compose(l.chain(config.Observer{}, config.Action{Type: "webhook", Cache: cache}, act, middleware.DeadLetter{}, time.Second))(act)
	e := &observer.Event{ID: "e", Operation: observer.Update, EntityType: "Product", EntityID: "7", Data: []byte(`{"shop":7,"name":"Bread"}`)}
	b.ReportAllocs()
	for b.Loop() {
		d := observer.NewDelivery(e, "o", 0, "webhook")
		d.Endpoint = "https://example.com/hook"
		if _, err := run.Execute(b.Context(), d); err != nil || d.State != observer.Done {
			b.Fatalf("%s, error %v", d.State, err)
		}
	}
	if hits := counters.Read().Cache.Hits; cache.On && hits == 0 {
		b.Fatal("no hit")
	}
}
