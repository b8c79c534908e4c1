//go:build unix

package e2e

import (
	"context"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
)

// streamName is that of a fleet.
const streamName = "fraiseql_events"

// jetStream gives the stream to somebody who is not one of the processes.
func (f *fleet) jetStream() jetstream.JetStream {
	f.t.Helper()
	nc, err := nats.Connect(f.nats, nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	if err != nil {
		f.t.Fatal(err)
	}
	return js
}

func (f *fleet) jetStreamOf(js jetstream.JetStream) jetstream.Stream {
	f.t.Helper()
	s, err := js.Stream(f.t.Context(), streamName)
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

// received waits until so many more requests were accepted.
func (f *fleet) received(more int) {
	f.t.Helper()
	before := f.recv.count(accepted)
	slowly(f.t, "more arrives", func() bool { return f.recv.count(accepted) >= before+more })
}

func deleteConsumers(ctx context.Context, stream jetstream.Stream) (deleted int, err error) {
	names := stream.ConsumerNames(ctx)
	for name := range names.Name() {
		if stream.DeleteConsumer(ctx, name) == nil { // else it is gone
			deleted++
		}
	}
	return deleted, names.Err()
}

// through puts a proxy in front of the server of a URL.
func through(t *testing.T, address *string) *testenv.Proxy {
	t.Helper()
	u, err := url.Parse(*address)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, u.Host)
	u.Host = proxy.Address
	*address = u.String()
	return proxy
}

// anyMessage is in every message to PostgreSQL.
const anyMessage = "\x00"

// Somebody deletes the consumers by which the workers read. They make others and
// go on where they were: nothing is repeated.
func TestConsumersDeletedByOthers(t *testing.T) {
	t.Parallel()
	r := random(t)
	recv := newReceiver(t, ok)
	f := newFleet(t, testenv.NATS(t), recv, webhook("all", recv.url(), "", ""))
	f.databases(onPostgres)
	f.crew(1, 2)
	f.start()
	stop := f.load(r, 40, 200)
	f.received(50)
	stream := f.jetStreamOf(f.jetStream())
	deleted := 0
	for range 4 {
		n, err := deleteConsumers(t.Context(), stream)
		if err != nil {
			t.Fatal(err)
		}
		deleted += n
		f.received(100)
	}
	stop()
	f.arrived()
	f.stop()
	f.check()
	if deleted < 12 {
		t.Errorf("%d consumers were deleted, want those of 12 partitions at least", deleted)
	}
}

// A stream that is full holds the bridge back, and the changes stay in the log.
// It goes on when somebody purges what was handled, and when the limit is raised.
func TestStreamIsFull(t *testing.T) {
	t.Parallel()
	const room, changes = 60, 200
	recv := newReceiver(t, ok)
	f := newFleet(t, testenv.NATS(t), recv, webhook("all", recv.url(), "", ""))
	f.stream = "max_msgs = 60\npurge_handled = false"
	f.databases(onSQLite)
	f.crew(1, 1)
	for n := range int64(changes) {
		f.bases[0].put(n%20 + 1)
	}
	f.start()
	bridge := f.bridges[0]
	full := func(times int) {
		t.Helper()
		slowly(t, "the bridge waits", func() bool { return strings.Contains(bridge.log(), "the stream is full") })
		slowly(t, "what is in the stream arrives", func() bool { return recv.count(accepted) == times*room })
		if held := bridge.behindOf(f.bases[0]); held < changes-int64(times)*room {
			t.Errorf("%d changes are behind the checkpoint, want %d at least", held, changes-times*room)
		}
	}
	full(1)
	if err := f.jetStreamOf(f.jetStream()).Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	full(2)
	if !strings.Contains(bridge.log(), "raise max_msgs") {
		t.Error("the log does not say what to do")
	}
	f.stop()
	f.stream = "max_msgs = 1000"
	for _, m := range f.members() {
		m.write(m.configuration())
	}
	f.start()
	f.arrived()
	f.stop()
	f.check()
}

// The network to one database is cut, silently. The other database goes on, also
// of a bridge that starts meanwhile.
func TestNetworkToOneDatabaseIsCut(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, ok)
	f := newFleet(t, testenv.NATS(t), recv, webhook("all", recv.url(), "", ""))
	f.databases(onPostgres, onSQLite)
	cut, other := f.bases[0], f.bases[1]
	proxy := through(t, &cut.url)
	f.crew(2, 1)
	f.start()
	cut.put(1)
	other.put(1)
	f.arrived()

	proxy.Mute(anyMessage)
	cut.put(2)
	for n := range int64(50) {
		other.put(n + 2)
	}
	f.arrivedOf(1)
	f.bridges[0].kill()
	f.bridges[1].kill()
	cut.put(3)
	other.put(100)
	began := time.Now()
	f.bridges[0].start()
	f.arrivedOf(1)
	if took := time.Since(began); took > 7*time.Second {
		t.Errorf("the start took %s", took)
	}
	f.bridges[1].start()
	other.put(101)
	f.arrivedOf(1)
	if n := len(f.oracles()[0].outstanding()); n != 2 {
		t.Errorf("%d changes of the database that cannot be reached are outstanding, want 2", n)
	}
	proxy.Pass()
	cut.put(4)
	f.arrived()
	f.stop()
	f.check()
}
