package embedded_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/transport/nats"
	"github.com/fraiseql/observer/transport/nats/embedded"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// publish publishes an event to an embedded server, and returns how many the
// stream has then.
func publish(t *testing.T, dir, id string) uint64 {
	t.Helper()
	server, err := embedded.Start(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	conn, err := nats.Connect(t.Context(), nats.Config{InProcess: server, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	stream, err := nats.NewStream(conn, nats.StreamConfig{})
	if err == nil {
		err = stream.Ensure(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	p, err := nats.NewPublisher(stream, nats.PublisherConfig{
		Database: "shop", Oversized: func(_ context.Context, _ *observer.Event, why error) error { return why },
	})
	if err == nil {
		err = p.Handle(t.Context(), &observer.Event{ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: id})
	}
	if err != nil {
		t.Fatal(err)
	}
	state, err := stream.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return state.Msgs
}

func TestStreamsOutliveTheServer(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "nats")
	for i, id := range []string{"1", "2"} {
		if n := publish(t, dir, id); n != uint64(i+1) {
			t.Errorf("%d messages, want %d", n, i+1)
		}
	}
}

func TestBadDirectory(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"", filepath.Join(file, "x")} {
		if server, err := embedded.Start(dir); err == nil {
			_ = server.Close()
			t.Errorf("a server runs in %q", dir)
		}
	}
}
