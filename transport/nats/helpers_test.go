package nats_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/transport/nats"
)

const (
	streamName = "events"
	prefix     = "test.mutation"
	// patience bounds a wait for what must come; it is not a measure of speed.
	patience = 30 * time.Second
)

// bench is a stream on a server, with what a test does to it.
type bench struct {
	*nats.Stream
	config nats.StreamConfig
	js     jetstream.JetStream // for what only a test does
}

func newBench(t *testing.T, url string, partitions int, change ...func(*nats.StreamConfig)) *bench {
	t.Helper()
	b := &bench{config: nats.StreamConfig{Name: streamName, SubjectPrefix: prefix, Partitions: partitions}, js: jetStream(t, url)}
	for _, c := range change {
		c(&b.config)
	}
	b.Stream = b.connect(t, url)
	b.create(t)
	return b
}

func (b *bench) connect(t *testing.T, url string) *nats.Stream {
	t.Helper()
	conn, err := nats.Connect(t.Context(), nats.Config{URL: observer.NewSecret(url), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	s, err := nats.NewStream(conn, b.config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// create makes the stream. The server may still be removing the files of one that
// was deleted a moment ago, and says that it cannot make a store then.
func (b *bench) create(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for err := b.Ensure(t.Context()); err != nil; err = b.Ensure(t.Context()) {
		if !strings.Contains(err.Error(), "creating store") || time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func (b *bench) delete(t *testing.T) {
	t.Helper()
	if err := b.js.DeleteStream(t.Context(), streamName); err != nil {
		t.Fatal(err)
	}
}

func (b *bench) stream(t *testing.T) jetstream.Stream {
	t.Helper()
	s, err := b.js.Stream(t.Context(), streamName)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// jetStream is a connection of the test's own.
func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	nc, err := client.Connect(url, client.MaxReconnects(-1), client.ReconnectWait(20*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

// connected waits until the server is back, for the test and for what it tests.
func (b *bench) connected(t *testing.T) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err := b.js.Stream(ctx, streamName)
		if err == nil {
			_, err = b.State(ctx)
		}
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("the server is not back: %v", err)
		}
	}
}

func (b *bench) source(t *testing.T, change ...func(*nats.SourceConfig)) *nats.Source {
	t.Helper()
	return newSource(t, b.Stream, change...)
}

// through is a source that reaches the server at another URL.
func (b *bench) through(t *testing.T, url string, change ...func(*nats.SourceConfig)) *nats.Source {
	t.Helper()
	return newSource(t, b.connect(t, url), change...)
}

func newSource(t *testing.T, stream *nats.Stream, change ...func(*nats.SourceConfig)) *nats.Source {
	t.Helper()
	cfg := nats.SourceConfig{Consumer: "workers", Heartbeat: 400 * time.Millisecond}
	for _, c := range change {
		c(&cfg)
	}
	s, err := nats.NewSource(stream, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// publish puts events into the stream as a publisher does.
func (b *bench) publish(ctx context.Context, database string, events ...*observer.Event) error {
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		m := &client.Msg{Subject: b.Event(database, e), Data: data, Header: client.Header{client.MsgIdHdr: {e.ID}}}
		if _, err := b.js.PublishMsg(ctx, m); err != nil {
			return err
		}
	}
	return nil
}

func name(n int) string { return fmt.Sprintf("00000000-0000-4000-8000-%012d", n) }

// names are those of the events from one to another.
func names(from, to int) []string {
	list := []string{}
	for i := from; i <= to; i++ {
		list = append(list, name(i))
	}
	return list
}

func event(n int) *observer.Event {
	return &observer.Event{
		ID: name(n), Operation: observer.Insert, EntityType: "Order", EntityID: "7",
		Data: fmt.Appendf(nil, `{"n":%d}`, n), Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

// fill publishes the events from one to another, all of one entity.
func (b *bench) fill(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		b.put(t, event(i))
	}
}

func (b *bench) put(t *testing.T, events ...*observer.Event) {
	t.Helper()
	if err := b.publish(t.Context(), "shop", events...); err != nil {
		t.Fatalf("publish: %v", err)
	}
}

// open opens a stream and closes it with the test.
func open(t *testing.T, s *nats.Source, after observer.Position) observer.Stream {
	t.Helper()
	stream, err := s.Open(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = stream.Close(context.WithoutCancel(t.Context())) })
	return stream
}

// read reads n messages.
func read(t *testing.T, s observer.Stream, n int) []observer.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var list []observer.Message
	for range n {
		m, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("message %d of %d: %v", len(list)+1, n, err)
		}
		list = append(list, m)
	}
	return list
}

func idsOf(messages []observer.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = messages[i].ID()
	}
	return list
}

// wantSilence fails when another message comes.
func wantSilence(t *testing.T, s observer.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if m, err := s.Next(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("got %+v and %v, want nothing", m, err)
	}
}

// wantFailure waits for the stream to end by itself.
func wantFailure(t *testing.T, s observer.Stream) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		_, err := s.Next(ctx)
		if ctx.Err() != nil {
			t.Fatal("the stream does not end")
		}
		if err != nil {
			return err
		}
	}
}
