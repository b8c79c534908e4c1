package topology_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

// throughNATS has the changes of a shop go through a stream.
func throughNATS(url, more string) string {
	return "[transport]\ntransport = \"nats\"\n" + more + "[transport.nats]\nurl = \"" + url + "\"\npartitions = 4\n"
}

func TestOneEventThroughTheStream(t *testing.T) {
	t.Parallel()
	for name, url := range map[string]string{"server": testenv.NATS(t), "embedded": "embedded"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
			built := build(t, s.parse(t, throughNATS(url, "")+observerTo("shipped", r.URL+"/shipped", `condition = "field_changed_to('status', 'shipped')"`)))
			s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
			stop := run(t, built)
			s.exec(t, `UPDATE orders SET status = 'shipped' WHERE id = 1`)
			r.await(t, "/shipped")
			stop()
			if got := r.bodies["/shipped"]; len(got) != 1 || !strings.Contains(got[0], `"changes":{"status":{"old":"new","new":"shipped"}}`) {
				t.Errorf("bodies %v", got)
			}
			if got := built.Counters.Read(); got.Done != 1 || got.Dead != 0 {
				t.Errorf("counts %+v", got)
			}
		})
	}
}

// A bridge and a worker are two processes that share nothing but the stream and
// the state.
func TestBridgeAndWorker(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	bridge := build(t, s.parse(t, throughNATS(url, "run_executors = false\n")))
	worker := build(t, s.parse(t, throughNATS(url, "run_bridge = false\n")+observerTo("all", r.URL+"/all", "")))
	if len(worker.Databases) != 0 {
		t.Errorf("the worker observes %d databases", len(worker.Databases))
	}
	run(t, bridge)
	run(t, worker)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	r.await(t, "/all")
	if got := bridge.Counters.Read(); got.Done != 0 {
		t.Errorf("the bridge ran %d deliveries", got.Done)
	}
}

// What the stream loses before a worker reads it is published again, that and
// nothing else.
func TestReconcilerPublishesWhatTheStreamLost(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	const grace = "[transport.bridge]\nreconcile_grace = \"1s\"\n"
	bridge := build(t, s.parse(t, throughNATS(url, "run_executors = false\n")+grace))
	worker := func() *topology.Topology {
		return build(t, s.parse(t, throughNATS(url, "run_bridge = false\n")+grace+observerTo("all", r.URL+"/all", "")))
	}
	run(t, bridge)
	stop := run(t, worker())
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	r.await(t, "/all")
	stop()
	js := jetStream(t, url)
	before := messages(t, js)
	for id := 2; id <= 6; id++ {
		s.exec(t, `INSERT INTO orders VALUES (?, 'lost')`, id)
	}
	eventually(t, "they are published", func() bool { return messages(t, js) == before+5 })
	stream, err := js.Stream(t.Context(), "fraiseql_events")
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Purge(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, worker())
	eventually(t, "they arrive", func() bool { return r.calls("/all") == 6 })
	s.exec(t, `INSERT INTO orders VALUES (7, 'new')`)
	eventually(t, "the reconciler has verified all", func() bool {
		got := bridge.Reconciled()["shop"]
		return got.Verified == 7 && got.Missing == 0
	})
	if n := bridge.Republished(); n != 5 || r.calls("/all") != 7 {
		t.Errorf("%d events were published again and %d arrived, want 5 and 7", n, r.calls("/all"))
	}
}

func jetStream(t *testing.T, url string) jetstream.JetStream {
	t.Helper()
	conn, err := nats.Connect(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(conn.Close)
	js, err := jetstream.New(conn)
	if err != nil {
		t.Fatal(err)
	}
	return js
}

func messages(t *testing.T, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), "fraiseql_events")
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return 0 // nobody has made it yet
	}
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %s", what)
		}
	}
}

// A stream that is nearly full loses what is handled, and nothing else: more
// changes than it has room for go through it, and each arrives once.
func TestStreamMakesRoomOfWhatIsHandled(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newQuietReceiver(t, func(string) int { return http.StatusOK })
	text := strings.Replace(throughNATS(url, ""), "partitions = 4\n", "partitions = 4\n[transport.nats.jetstream]\nmax_msgs = 100\n", 1)
	built := build(t, s.parse(t, text+observerTo("all", r.URL+"/all", "")))
	const changes = 150
	for id := range changes {
		s.exec(t, `INSERT INTO orders VALUES (?, 'new')`, id+1)
	}
	run(t, built)
	eventually(t, "all arrive", func() bool { return r.calls("/all") == changes })
	if n := messages(t, jetStream(t, url)); n > 100 {
		t.Errorf("%d messages in a stream of 100", n)
	}
	eventually(t, "all are verified", func() bool { return built.Reconciled()["shop"].Verified == changes })
	if n := built.Republished(); n != 0 || r.calls("/all") != changes {
		t.Errorf("%d were published again, and %d arrived, want none and %d", n, r.calls("/all"), changes)
	}
}

// Who goes back from the stream to one process loses nothing that is in the stream
// and was not handled, and a later return to the stream publishes nothing again.
func TestBackFromTheStream(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	const grace = "[transport.bridge]\nreconcile_grace = \"1s\"\n"
	bridge := build(t, s.parse(t, throughNATS(url, "run_executors = false\n")+grace))
	stop := run(t, bridge)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	eventually(t, "it is published", func() bool { return messages(t, jetStream(t, url)) == 1 })
	stop()
	direct := build(t, s.parse(t, observerTo("all", r.URL+"/all", "")))
	stop = run(t, direct)
	r.await(t, "/all")
	s.exec(t, `INSERT INTO orders VALUES (2, 'new')`)
	eventually(t, "the next arrives, too", func() bool { return r.calls("/all") == 2 })
	stop()
	both := build(t, s.parse(t, throughNATS(url, "")+grace+observerTo("all", r.URL+"/all", "")))
	run(t, both)
	s.exec(t, `INSERT INTO orders VALUES (3, 'new')`)
	eventually(t, "the reconciler has verified what was published since", func() bool {
		got := both.Reconciled()["shop"]
		return got.Verified == 1 && got.Missing == 0
	})
	if n := both.Republished(); n != 0 {
		t.Errorf("%d events were published again, want none", n)
	}
}
