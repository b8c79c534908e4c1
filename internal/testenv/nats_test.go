//go:build unix

package testenv_test

import (
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
)

// natsStream connects to servers and makes a stream.
func natsStream(t *testing.T, url string, replicas int) (*client.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := client.Connect(url, client.MaxReconnects(-1), client.ReconnectWait(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(t.Context(), jetstream.StreamConfig{Name: "x", Subjects: []string{"x"}, Replicas: replicas}); err != nil {
		t.Fatal(err)
	}
	return nc, js
}

// put stores a message, trying until the server is there.
func put(t *testing.T, js jetstream.JetStream, want uint64) {
	t.Helper()
	eventually(t, "a message is stored", func() bool {
		ack, err := js.Publish(t.Context(), "x", nil)
		if err == nil && ack.Sequence < want {
			t.Fatalf("sequence %d, want %d", ack.Sequence, want)
		}
		return err == nil
	})
}

func TestNATSInProcess(t *testing.T) {
	t.Parallel()
	first, second := testenv.NATS(t), testenv.NATS(t)
	_, js := natsStream(t, first, 1)
	put(t, js, 1)
	_, other := natsStream(t, second, 1)
	put(t, other, 1)
}

func TestPrivateNATS(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateNATS(t, testenv.NATSOptions{SyncAlways: true, Settings: "max_payload: 1000"})
	nc, js := natsStream(t, server.URL(), 1)
	if nc.MaxPayload() != 1000 {
		t.Errorf("max payload %d", nc.MaxPayload())
	}
	put(t, js, 1)
	old := server.CopyStore(t)
	put(t, js, 2)
	server.Restart(t)
	put(t, js, 3)

	server.Pause(t)
	if err := nc.FlushTimeout(100 * time.Millisecond); err == nil {
		t.Error("a paused server answers")
	}
	server.Continue(t)
	eventually(t, "the server answers", func() bool { return nc.FlushTimeout(time.Second) == nil })

	server.RestoreStore(t, old)
	eventually(t, "the old store is there", func() bool {
		info, err := js.Stream(t.Context(), "x")
		if err != nil {
			return false
		}
		if last := info.CachedInfo().State.LastSeq; last != 1 {
			t.Fatalf("last sequence %d, want 1", last)
		}
		return true
	})
	server.Kill(t)
	eventually(t, "the connection is lost", func() bool { return !nc.IsConnected() })
}

func TestNATSCluster(t *testing.T) {
	t.Parallel()
	nodes := testenv.NATSCluster(t, 3, testenv.NATSOptions{})
	_, js := natsStream(t, nodes.URL(), 3)
	for i, s := range nodes {
		s.Kill(t)
		put(t, js, uint64(i+1))
		s.Restart(t)
	}
}
