package bench

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/relay"
	postgressource "github.com/fraiseql/observer/source/postgres"
	"github.com/fraiseql/observer/source/postgres/changelog"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/transport/nats"
)

// BenchmarkNATSBridgeAgainstBarePublish publishes a change log to a stream, by the
// source, the relay and the publisher of a bridge, and the same messages with
// their ids by asynchronous publishing to another stream of that server. The
// bare side has its messages made already. One operation is a round of both, each
// to a new stream.
func BenchmarkNATSBridgeAgainstBarePublish(b *testing.B) {
	compareBridges(b, testenv.NATSOptions{}, published, batchOf)
}

// BenchmarkNATSBridgeAgainstBarePublishLargeBatches is the same with a server that
// takes larger batches than servers do by default.
func BenchmarkNATSBridgeAgainstBarePublishLargeBatches(b *testing.B) {
	compareBridges(b, takesLargeBatches(), published, largeBatch)
}

// BenchmarkNATSBridgeAgainstBarePublishSyncAlways is the same with a server that
// writes to the disk before it answers.
func BenchmarkNATSBridgeAgainstBarePublishSyncAlways(b *testing.B) {
	compareBridges(b, testenv.NATSOptions{SyncAlways: true}, published/10, batchOf)
}

// compareBridges has n changes published a round, size of them at a time.
func compareBridges(b *testing.B, server testenv.NATSOptions, n, size int) {
	b.Helper()
	logs := map[string]func(b *testing.B, n int) observer.Source{"sqlite": sqliteLog, "postgres": postgresLog}
	for _, name := range []string{"sqlite", "postgres"} {
		b.Run(name, func(b *testing.B) {
			compareBridge(b, bridge{source: logs[name](b, n), url: testenv.PrivateNATS(b, server).URL(), changes: n, size: size})
		})
	}
}

func sqliteLog(b *testing.B, n int) observer.Source {
	b.Helper()
	path := newDatabase(b)
	insert(b, path, n)
	return sqlitesource.New(sqlitesource.Config{Name: "shop", Path: path})
}

func postgresLog(b *testing.B, n int) observer.Source {
	b.Helper()
	url := testenv.Database(b)
	if err := changelog.Migrate(b.Context(), url, changelog.Options{}); err != nil {
		b.Fatal(err)
	}
	conn := testenv.Connect(b, url)
	fillLog(b, conn, n)
	testenv.Exec(b, conn, "VACUUM ANALYZE core.tb_entity_change_log")
	return postgressource.New(postgressource.Config{Name: "shop", URL: observer.NewSecret(url)})
}

// bridge is what is measured.
type bridge struct {
	source        observer.Source
	url           string
	changes, size int
}

func compareBridge(b *testing.B, br bridge) {
	b.Helper()
	conn, err := nats.Connect(b.Context(), nats.Config{URL: observer.NewSecret(br.url), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	nc, err := client.Connect(br.url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		b.Fatal(err)
	}
	read := &collector{}
	br.relay(b, read)
	n := float64(br.changes)
	var events, bare []float64
	for round := 0; b.Loop(); round++ {
		ours, theirs := newStream(b, conn, fmt.Sprintf("events%d", round)), newStream(b, conn, fmt.Sprintf("bare%d", round))
		messages := messagesOf(b, theirs, read.events)
		measures := []func(){
			func() { events = append(events, n/br.relay(b, newPublisher(b, ours, br.size)).Seconds()) },
			func() { bare = append(bare, n/barePublishRound(b, nc, messages).Seconds()) },
		}
		measures[round%2]()
		measures[1-round%2]()
		for _, stream := range []*nats.Stream{ours, theirs} {
			state, err := stream.State(b.Context())
			if err == nil && state.Msgs != uint64(br.changes) {
				err = fmt.Errorf("stream %s has %d messages, want %d", stream.Name(), state.Msgs, br.changes)
			}
			if err == nil {
				err = js.DeleteStream(b.Context(), stream.Name())
			}
			if err != nil {
				b.Fatal(err)
			}
		}
	}
	reportRatio(b, events, bare)
}

// batchHandler is a handler that takes many events at once.
type batchHandler interface {
	observer.Handler
	observer.BatchHandler
}

// relay relays the whole change log to a handler and says how long that took.
func (br bridge) relay(b *testing.B, handler batchHandler) time.Duration {
	b.Helper()
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	counted := &counter{batchHandler: handler, left: br.changes, done: stop}
	r := relay.New(relay.Config{
		Source: br.source, Handler: counted, Checkpoints: memorystore.New(memorystore.Config{}), Logger: slog.New(slog.DiscardHandler),
		Malformed: func(_ context.Context, m *observer.Malformed) error { return errors.New(m.Reason) },
		Batch:     br.size, InFlight: 4 * br.size, // as a bridge has them
	})
	begin := time.Now()
	if err := r.Run(ctx); err != nil {
		b.Fatal(err)
	}
	return counted.ended.Sub(begin)
}

// counter stops the relay when all events are handled.
type counter struct {
	batchHandler
	left  int
	ended time.Time
	done  func()
}

// HandleBatch implements [observer.BatchHandler]. A relay makes one call at a time.
func (c *counter) HandleBatch(ctx context.Context, events []*observer.Event) error {
	n, err := len(events), c.batchHandler.HandleBatch(ctx, events)
	if err != nil {
		n = observer.PartlyOf(err)
	}
	if c.left -= n; c.left == 0 {
		c.ended = time.Now()
		c.done()
	}
	return err
}

// collector keeps events.
type collector struct{ events []*observer.Event }

// Handle implements [observer.Handler].
func (c *collector) Handle(_ context.Context, e *observer.Event) error {
	c.events = append(c.events, e)
	return nil
}

// HandleBatch implements [observer.BatchHandler].
func (c *collector) HandleBatch(_ context.Context, events []*observer.Event) error {
	c.events = append(c.events, events...)
	return nil
}
