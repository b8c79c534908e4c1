package topology_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

const unreadable = `INSERT INTO tb_entity_change_log (object_type, modification_type, object_id, object_data) VALUES ('Order', 'UPSERT', '1', '{}')`

const repair = `UPDATE tb_entity_change_log SET modification_type = 'INSERT' WHERE modification_type = 'UPSERT'`

// redrive runs a stored delivery as a person does, and gives what became of it.
func redrive(t *testing.T, built *topology.Topology, d *observer.Delivery) *observer.Delivery {
	t.Helper()
	again := *d
	if err := built.RunStored(t.Context(), &again); err != nil {
		t.Fatal(err)
	}
	return &again
}

// An entry that was kept before the changes went through a stream can be redriven
// afterwards: the bridge does it, whoever is asked.
func TestWhatWasKeptBeforeTheStreamIsRedriven(t *testing.T) {
	t.Parallel()
	url := testenv.NATS(t)
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	s.exec(t, unreadable)
	direct := build(t, s.parse(t, observerTo("all", r.URL+"/all", "")))
	stop := run(t, direct)
	dead := awaitDead(t, direct.Store)[0]
	stop()
	s.exec(t, repair)
	bridge := build(t, s.parse(t, throughNATS(url, "run_executors = false\n")))
	worker := build(t, s.parse(t, throughNATS(url, "run_bridge = false\n")+observerTo("all", r.URL+"/all", "")))
	if d := redrive(t, worker, dead); d.State != observer.Dead || !strings.Contains(d.Error, "no bridge reads one at the moment") {
		t.Errorf("without a bridge it is %s (%s)", d.State, d.Error)
	}
	run(t, worker)
	run(t, bridge)
	eventually(t, "the database is read", func() bool {
		held, err := bridge.Store.Leases(t.Context(), topology.DatabaseLease("shop"))
		return err == nil && len(held) == 1 && held[0].Running()
	})
	if d := redrive(t, worker, dead); d.State != observer.Queued || d.Queue != "@bridge/shop" {
		t.Errorf("with a bridge it is %s in queue %q (%s)", d.State, d.Queue, d.Error)
	}
	if _, err := worker.Store.RequeueDelivery(t.Context(), dead.Key, time.Now()); err != nil {
		t.Fatal(err)
	}
	r.await(t, "/all")
	if d := redrive(t, bridge, dead); d.State != observer.Done {
		t.Errorf("on the bridge itself it is %s (%s)", d.State, d.Error)
	}
}

// What a bridge kept can be redriven when the changes go through no stream any
// more.
func TestWhatABridgeKeptIsRedrivenWithoutAStream(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	direct := build(t, s.parse(t, observerTo("all", r.URL+"/{{ data.status }}", "")))
	large := observer.NewDelivery(order("e", "large"), "@bridge/shop", 0, "publish")
	large.Queue, large.State, large.Attempts = "@bridge/shop", observer.Dead, nil
	if _, err := direct.Store.InsertDeliveries(t.Context(), large); err != nil {
		t.Fatal(err)
	}
	if d := redrive(t, direct, large); d.State != observer.Done || len(d.Attempts) != 1 {
		t.Errorf("the large one is %s after %d attempts (%s)", d.State, len(d.Attempts), d.Error)
	}
	r.await(t, "/large")
	run(t, direct)
	if _, err := direct.Store.RequeueDelivery(t.Context(), large.Key, time.Now()); err != nil {
		t.Fatal(err)
	}
	await(t, direct.Store, observer.DeliveryFilter{Observer: "@bridge/shop", State: observer.Done})
	other := observer.NewDelivery(order("f", "other"), "@bridge/other", 0, "publish")
	if d := redrive(t, direct, other); d.State != observer.Dead || !strings.Contains(d.Error, `no database "other"`) {
		t.Errorf("that of another database is %s (%s)", d.State, d.Error)
	}
}

// A bridge runs no actions, so it does not redrive what a worker has to.
func TestABridgeLeavesEntriesOfTheStreamToWorkers(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	bridge := build(t, s.parse(t, throughNATS(testenv.NATS(t), "run_executors = false\n")))
	d := redrive(t, bridge, &observer.Delivery{Key: "k", Malformed: &observer.Malformed{
		ID: "k", Source: "nats/fraiseql_observer_worker/fraiseql_events/1", Position: "1", Reason: "no event",
	}})
	if d.State != observer.Dead || !strings.Contains(d.Error, "with the configuration of a worker") {
		t.Errorf("it is %s (%s)", d.State, d.Error)
	}
}
