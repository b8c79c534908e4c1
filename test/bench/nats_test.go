package bench

import (
	"context"
	"encoding/json"
	"fmt"
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
// how many a relay hands over at a time by default. largeBatch is how many a server
// can be told to take together.
const (
	published  = 50_000
	batchOf    = 1000
	largeBatch = 4000
)

// takesLargeBatches is a server that was told so.
func takesLargeBatches() testenv.NATSOptions {
	return testenv.NATSOptions{Conf: fmt.Sprintf("jetstream {\nstore_dir: there\nmax_file_store: 100GB\nlimits { batch { max_msgs: %d } }\n}\n", largeBatch)}
}

// BenchmarkNATSPublisherAgainstBarePublish publishes events in fenced atomic
// batches, and messages with the same bodies and ids by asynchronous publishing,
// to two streams of one server with the same configuration. One operation is a
// round of both.
func BenchmarkNATSPublisherAgainstBarePublish(b *testing.B) {
	comparePublishing(b, testenv.NATS(b), published, batchOf)
}

// BenchmarkNATSPublisherAgainstBarePublishLargeBatches is the same with a server,
// in its own process, that takes larger batches than servers do by default.
func BenchmarkNATSPublisherAgainstBarePublishLargeBatches(b *testing.B) {
	comparePublishing(b, testenv.PrivateNATS(b, takesLargeBatches()).URL(), published, largeBatch)
}

// BenchmarkNATSPublisherAgainstBarePublishSyncAlways is the same with a server in
// its own process that writes to the disk before it answers.
func BenchmarkNATSPublisherAgainstBarePublishSyncAlways(b *testing.B) {
	comparePublishing(b, testenv.PrivateNATS(b, testenv.NATSOptions{SyncAlways: true}).URL(), published/10, batchOf)
}

// comparePublishing publishes n events a round, size of them at a time.
func comparePublishing(b *testing.B, url string, n, size int) {
	b.Helper()
	conn, err := nats.Connect(b.Context(), nats.Config{URL: observer.NewSecret(url)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream := newStream(b, conn, "events")
	bareStream := newStream(b, conn, "bare")
	nc, err := client.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	defer nc.Close()
	var events, bare []float64
	for round := 0; b.Loop(); round++ {
		list := roundOf(round, n)
		messages := messagesOf(b, bareStream, list)
		measures := []func(){
			func() { events = append(events, float64(n)/publishRound(b, stream, list, size).Seconds()) },
			func() { bare = append(bare, float64(n)/barePublishRound(b, nc, messages).Seconds()) },
		}
		measures[round%2]()
		measures[1-round%2]()
	}
	reportRatio(b, events, bare)
}

// reportRatio reports the rates of both sides by round, and their ratio.
func reportRatio(b *testing.B, events, bare []float64) {
	b.Helper()
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

func publishRound(b *testing.B, stream *nats.Stream, list []*observer.Event, size int) time.Duration {
	b.Helper()
	p := newPublisher(b, stream, size)
	if err := p.HandleBatch(b.Context(), list[:1]); err != nil { // reads what is there
		b.Fatal(err)
	}
	begin := time.Now()
	for i := 1; i < len(list); i += size {
		if err := p.HandleBatch(b.Context(), list[i:min(len(list), i+size)]); err != nil {
			b.Fatal(err)
		}
	}
	return time.Since(begin)
}

func newPublisher(b *testing.B, stream *nats.Stream, size int) *nats.Publisher {
	b.Helper()
	p, err := nats.NewPublisher(stream, nats.PublisherConfig{
		Database: "shop", BatchSize: size, Logger: slog.New(slog.DiscardHandler),
		Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
	})
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// bareMessage is what is published without us.
type bareMessage struct {
	subject, id string
	body        []byte
}

func messagesOf(b *testing.B, stream *nats.Stream, list []*observer.Event) []bareMessage {
	b.Helper()
	messages := make([]bareMessage, len(list))
	for i, e := range list {
		body, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		messages[i] = bareMessage{subject: stream.Event("shop", e), id: e.ID, body: body}
	}
	return messages
}

func barePublishRound(b *testing.B, nc *client.Conn, messages []bareMessage) time.Duration {
	b.Helper()
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4000))
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	for _, m := range messages {
		msg := &client.Msg{Subject: m.subject, Data: m.body, Header: client.Header{client.MsgIdHdr: {m.id}}}
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
