package topology_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

// said is a log that may be read while it is written.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

func buildSaying(t *testing.T, cfg *config.Config) (*topology.Topology, *said) {
	t.Helper()
	log := &said{}
	built, err := topology.Build(t.Context(), cfg, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = built.Close() })
	return built, log
}

// Two bridges that keep their place under different names would each publish all
// there is. The second says so, and publishes nothing.
func TestBridgesWithDifferentTransportNames(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s := newShop(t)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	run(t, build(t, s.parse(t, throughNATS(url, "run_executors = false\n"))))
	eventually(t, "it is published", func() bool {
		all, err := jetStream(t, url).Stream(t.Context(), "fraiseql_events")
		return err == nil && all.CachedInfo().State.Msgs == 1
	})
	second, log := buildSaying(t, s.parse(t, throughNATS(url, "run_executors = false\n")+"[transport.bridge]\ntransport_name = \"other\"\n"))
	run(t, second)
	eventually(t, "the second says why", func() bool {
		return log.has("two bridges of a database have different names") && log.has("write the same [transport.bridge] transport_name for both")
	})
}

// A bridge that crashed counts for an hour: who takes its place under another name
// does not publish all of it once more.
func TestBridgeThatCrashedCounts(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s := newShop(t)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	second, log := buildSaying(t, s.parse(t, throughNATS(url, "run_executors = false\n")+"[transport.bridge]\ntransport_name = \"other\"\n"))
	const crashed = "bridge/shop/consumer_name=fraiseql_observer_worker&owner=crashed&reconcile=true&transport_name=shop"
	if _, err := second.Store.AcquireLease(t.Context(), crashed, "crashed", time.Millisecond); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it ran out", func() bool {
		all, err := second.Store.Leases(t.Context(), "bridge/")
		return err == nil && len(all) == 1 && !all[0].Running()
	})
	run(t, second)
	eventually(t, "it says why", func() bool { return log.has("the bridge crashed publishes database shop") })
	if n := messages(t, jetStream(t, url)); n != 0 {
		t.Errorf("%d events were published", n)
	}
}

// Of two bridges one verifies and the other does not, and each says so.
func TestBridgesThatReconcileAndDoNot(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s := newShop(t)
	first, firstLog := buildSaying(t, s.parse(t, throughNATS(url, "run_executors = false\n")))
	second, secondLog := buildSaying(t, s.parse(t, throughNATS(url, "run_executors = false\n")+"[transport.bridge]\nreconcile = false\n"))
	run(t, first)
	run(t, second)
	for _, log := range []*said{firstLog, secondLog} {
		eventually(t, "it is said", func() bool {
			return log.has("another bridge of this database has another [transport.bridge] reconcile")
		})
	}
}

// Two groups of workers on one stream and one state each handle everything. The
// bridge says which of them it verifies, and purges nothing that the other lacks.
func TestTwoGroupsOfWorkers(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newQuietReceiver(t, func(string) int { return http.StatusOK })
	const small = "[transport.nats.jetstream]\nmax_msgs = 20\n"
	group := func(name string) string {
		return throughNATS(url, "run_bridge = false\n") + "consumer_name = \"" + name + "\"\n" + small + observerTo(name, r.URL+"/"+name, "")
	}
	bridge, log := buildSaying(t, s.parse(t, throughNATS(url, "run_executors = false\n")+"consumer_name = \"billing\"\n"+small))
	run(t, bridge)
	run(t, build(t, s.parse(t, group("billing"))))
	search := build(t, s.parse(t, group("search")))
	stop := run(t, search)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	eventually(t, "both have it", func() bool { return r.calls("/billing") == 1 && r.calls("/search") == 1 })
	eventually(t, "it says which one it verifies", func() bool { return log.has("verified=billing not_verified=search") })
	stop()
	for id := 2; id <= 40; id++ {
		s.exec(t, `INSERT INTO orders VALUES (?, 'new')`, id)
	}
	eventually(t, "the stream is full", func() bool { return r.calls("/billing") >= 19 })
	run(t, build(t, s.parse(t, group("search"))))
	eventually(t, "both have all", func() bool { return r.calls("/billing") == 40 && r.calls("/search") == 40 })
}
