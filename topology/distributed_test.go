package topology_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
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
