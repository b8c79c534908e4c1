package bench

import (
	"context"
	"log/slog"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/relay"
	memorysource "github.com/fraiseql/observer/source/memory"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	memorystore "github.com/fraiseql/observer/store/memory"
	sqlitestore "github.com/fraiseql/observer/store/sqlite"
)

// BenchmarkRelayMemory is the relay's own cost: nothing is read from a disk and
// nothing is done. One operation is one event.
func BenchmarkRelayMemory(b *testing.B) {
	source := memorysource.New("memory")
	for i := range b.N {
		source.Append(&observer.Event{
			ID: strconv.Itoa(i), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(i % 1000),
			Data: []byte(`{"id":1,"status":"new"}`), Timestamp: time.Now(),
		})
	}
	copyAll(b, source, memorystore.New(memorystore.Config{}))
}

// BenchmarkRelaySQLite adds what is durable: the change log and the
// checkpoints, each in a file.
func BenchmarkRelaySQLite(b *testing.B) {
	path := newDatabase(b)
	insert(b, path, b.N)
	store, err := sqlitestore.Open(b.Context(), sqlitestore.Config{Path: b.TempDir() + "/state.db"})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	copyAll(b, sqlitesource.New(sqlitesource.Config{Name: "shop", Path: path}), store)
}

// copyAll relays b.N events to a handler that does nothing.
func copyAll(b *testing.B, source observer.Source, store observer.CheckpointStore) {
	b.Helper()
	b.ReportAllocs()
	b.ResetTimer()
	relayed(b, source, store, b.N)
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// relayed relays n events to a handler that does nothing, and stops.
func relayed(b *testing.B, source observer.Source, store observer.CheckpointStore, n int) {
	b.Helper()
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var handled atomic.Int64
	r := relay.New(relay.Config{
		Source: source, Checkpoints: store, Logger: slog.New(slog.DiscardHandler),
		Malformed: func(context.Context, *observer.Malformed) error { return nil },
		Handler: observer.HandlerFunc(func(context.Context, *observer.Event) error {
			if handled.Add(1) == int64(n) {
				cancel()
			}
			return nil
		}),
	})
	if err := r.Run(ctx); err != nil {
		b.Fatal(err)
	}
}
