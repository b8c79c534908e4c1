package bench

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
)

// published is how many events one round publishes, by each side, and batchOf
// how many a relay hands over at a time.
const (
	published = 50_000
	batchOf   = 1000
)

// BenchmarkNATSPublisherAgainstBarePublish publishes events in fenced atomic
// batches, and messages with the same bodies and ids by asynchronous publishing,
// to two streams of one server with the same configuration. One operation is a
// round of both.
func BenchmarkNATSPublisherAgainstBarePublish(b *testing.B) {
	comparePublishing(b, testenv.NATS(b), published)
}

// BenchmarkNATSPublisherAgainstBarePublishSyncAlways is the same with a server in
// its own process that writes to the disk before it answers.
func BenchmarkNATSPublisherAgainstBarePublishSyncAlways(b *testing.B) {
	comparePublishing(b, testenv.PrivateNATS(b, testenv.NATSOptions{SyncAlways: true}).URL(), published/10)
}

func comparePublishing(b *testing.B, url string, n int) {
	b.Helper()
	conn, err := nats.Connect(b.Context(), nats.Config{URL: observer.NewSecret(url)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream := newStream(b, conn, "events")
	newStream(b, conn, "bare")
	nc, err := client.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	var events, bare []float64
	for round := 0; b.Loop(); round++ {
		list := roundOf(round, n)
		measures := []func(){
			func() { events = append(events, float64(n)/publishRound(b, stream, list).Seconds()) },
			func() { bare = append(bare, float64(n)/barePublishRound(b, nc, list).Seconds()) },
		}
		measures[round%2]()
		measures[1-round%2]()
	}
	ratios := make([]float64, len(bare))
	for i := range bare {
		ratios[i] = events[i] / bare[i]
	}
	report(b, "events/s", events)
	report(b, "bare-messages/s", bare)
	report(b, "ratio", ratios)
}

func newStream(b *testing.B, conn *nats.Conn, name string) *nats.Stream {
	b.Helper()
	stream, err := nats.NewStream(conn, nats.StreamConfig{Name: name, SubjectPrefix: name})
	if err == nil {
		err = stream.Ensure(b.Context())
	}
	if err != nil {
		b.Fatal(err)
	}
	return stream
}

// roundOf makes the events of a round, about 400 bytes each.
func roundOf(round, n int) []*observer.Event {
	list := make([]*observer.Event, n)
	for i := range list {
		id := strconv.Itoa(round*n + i)
		list[i] = &observer.Event{
			ID: "0191d3b0-0000-7000-8000-" + id, Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(i % 1000),
			Data: json.RawMessage(`{"id": ` + id + `, "note": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "total": 12.50, "status": "new"}`), Timestamp: time.Now(),
		}
	}
	return list
}

func publishRound(b *testing.B, stream *nats.Stream, list []*observer.Event) time.Duration {
	b.Helper()
	p, err := nats.NewPublisher(stream, nats.PublisherConfig{
		Database: "shop", Logger: slog.New(slog.DiscardHandler),
		Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
	})
	if err == nil {
		err = p.HandleBatch(b.Context(), list[:1]) // reads what is there
	}
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	for i := 1; i < len(list); i += batchOf {
		if err := p.HandleBatch(b.Context(), list[i:min(len(list), i+batchOf)]); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

func barePublishRound(b *testing.B, nc *client.Conn, list []*observer.Event) time.Duration {
	b.Helper()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	bodies := make([][]byte, len(list))
	for i, e := range list {
		if bodies[i], err = json.Marshal(e); err != nil {
			b.Fatal(err)
		}
	}
	begin := time.Now()
	for i, e := range list {
		msg := &client.Msg{Subject: "bare.shop." + strconv.Itoa(i%32) + ".Order.INSERT", Data: bodies[i], Header: client.Header{"Nats-Msg-Id": {e.ID}}}
		if _, err := js.PublishMsgAsync(msg, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	select {
	case <-js.PublishAsyncComplete():
	case <-b.Context().Done():
		b.Fatal(b.Context().Err())
	}
	return time.Since(begin)
}
