package embedded

import (
	"context"
	"log/slog"
	"strconv"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/transport/nats"
)

// BenchmarkPublish publishes events in batches, as a bridge does, to a server
// that writes what it acknowledges to the disk, and to one that leaves that to
// the operating system.
func BenchmarkPublish(b *testing.B) {
	for name, lazy := range map[string]bool{"sync=always": false, "sync=later": true} {
		for _, size := range []int{1, 20, 500} {
			b.Run(name+"/batch="+strconv.Itoa(size), func(b *testing.B) { benchmarkPublish(b, lazy, size) })
		}
	}
}

func benchmarkPublish(b *testing.B, lazy bool, size int) {
	b.Helper()
	s := start(b, Config{StoreDir: b.TempDir(), lazy: lazy})
	defer end(b, s)
	p := publisher(b, s)
	n := 0
	for b.Loop() {
		batch := make([]*observer.Event, size)
		for i := range batch {
			n++
			batch[i] = &observer.Event{
				ID: "0191d3b0-0000-7000-8000-" + strconv.Itoa(n), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(n % 100),
				Data: []byte(`{"id": 1, "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "total": 12.50, "status": "new"}`),
			}
		}
		if err := p.HandleBatch(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "events/s")
}

func publisher(b *testing.B, s *Server) *nats.Publisher {
	b.Helper()
	conn, err := nats.Connect(b.Context(), nats.Config{InProcess: s, Logger: quiet()})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close() })
	stream, err := nats.NewStream(conn, nats.StreamConfig{})
	if err == nil {
		err = stream.Ensure(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	p, err := nats.NewPublisher(stream, nats.PublisherConfig{
		Database: "shop", Logger: slog.New(slog.DiscardHandler),
		Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
	})
	if err != nil {
		b.Fatal(err)
	}
	return p
}
