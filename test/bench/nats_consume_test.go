package bench

import (
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/transport/nats"
)

// streamed is how many messages one round reads, by each side.
const streamed = 100_000

// BenchmarkNATSPartitionAgainstBareConsume relays a partition of a stream to a
// handler that does nothing, and consumes the same messages with the jetstream
// package, acknowledging each and decoding none. One operation is a round of
// both.
func BenchmarkNATSPartitionAgainstBareConsume(b *testing.B) {
	url := testenv.PrivateNATS(b, testenv.NATSOptions{}).URL()
	conn, err := nats.Connect(b.Context(), nats.Config{URL: observer.NewSecret(url), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := nats.NewStream(conn, nats.StreamConfig{Partitions: 1})
	if err != nil {
		b.Fatal(err)
	}
	if err := stream.Ensure(b.Context()); err != nil {
		b.Fatal(err)
	}
	bare := bareStream(b, url)
	fillStream(b, bare, stream)
	var events, messages, ratios []float64
	for round := 0; b.Loop(); round++ {
		sides := []func(){
			func() { events = append(events, streamed/partitionRound(b, stream).Seconds()) },
			func() { messages = append(messages, streamed/bareConsumeRound(b, bare, stream.Name()).Seconds()) },
		}
		sides[round%2]()
		sides[(round+1)%2]()
		ratios = append(ratios, events[round]/messages[round])
	}
	report(b, "events/s", events)
	report(b, "bare-messages/s", messages)
	report(b, "ratio", ratios)
}

func bareStream(b *testing.B, url string) jetstream.JetStream {
	b.Helper()
	nc, err := client.Connect(url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(nc.Close)
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(1000))
	if err != nil {
		b.Fatal(err)
	}
	return js
}

func fillStream(b *testing.B, js jetstream.JetStream, stream *nats.Stream) {
	b.Helper()
	note := strings.Repeat("x", 100)
	for n := range streamed {
		e := &observer.Event{
			ID: strconv.Itoa(n), Operation: observer.Insert, EntityType: "Order", EntityID: strconv.Itoa(n % 1000), Timestamp: time.Now(),
			Data: []byte(`{"id":` + strconv.Itoa(n) + `,"status":"new","total":19.99,"note":"` + note + `"}`),
		}
		data, err := json.Marshal(e)
		if err != nil {
			b.Fatal(err)
		}
		m := &client.Msg{Subject: stream.Event("shop", e), Data: data, Header: client.Header{client.MsgIdHdr: {e.ID}}}
		if _, err := js.PublishMsgAsync(m, jetstream.WithStallWait(time.Minute)); err != nil {
			b.Fatal(err)
		}
	}
	<-js.PublishAsyncComplete()
	if state, err := stream.State(b.Context()); err != nil || state.Msgs != streamed {
		b.Fatalf("the stream has %+v, %v", state, err)
	}
}

func partitionRound(b *testing.B, stream *nats.Stream) time.Duration {
	b.Helper()
	source, err := nats.NewSource(stream, nats.SourceConfig{})
	if err != nil {
		b.Fatal(err)
	}
	begin := time.Now()
	relayed(b, source, memorystore.New(memorystore.Config{}), streamed)
	return time.Since(begin)
}

func bareConsumeRound(b *testing.B, js jetstream.JetStream, stream string) time.Duration {
	b.Helper()
	begin := time.Now()
	consumer, err := js.CreateConsumer(b.Context(), stream, jetstream.ConsumerConfig{AckPolicy: jetstream.AckExplicitPolicy, MaxAckPending: 10_000})
	if err != nil {
		b.Fatal(err)
	}
	messages, err := consumer.Messages()
	if err != nil {
		b.Fatal(err)
	}
	for range streamed {
		m, err := messages.Next()
		if err != nil {
			b.Fatal(err)
		}
		if err := m.Ack(); err != nil {
			b.Fatal(err)
		}
	}
	if err := js.Conn().Flush(); err != nil {
		b.Fatal(err)
	}
	took := time.Since(begin)
	messages.Stop()
	if err := js.DeleteConsumer(b.Context(), stream, consumer.CachedInfo().Name); err != nil {
		b.Fatal(err)
	}
	return took
}
