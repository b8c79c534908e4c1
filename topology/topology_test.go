package topology_test

import (
	"context"
	"database/sql"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/sqlite"
	"github.com/fraiseql/observer/topology"
)

// receiver answers 200, or what answer says, and remembers the bodies by path.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex
	bodies map[string][]string
	came   chan string
}

func newReceiver(t *testing.T, answer func(path string) int) *receiver {
	t.Helper()
	r := &receiver{bodies: map[string][]string{}, came: make(chan string, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, _ := io.ReadAll(req.Body)
		r.mu.Lock()
		r.bodies[req.URL.Path] = append(r.bodies[req.URL.Path], string(body))
		r.mu.Unlock()
		w.WriteHeader(answer(req.URL.Path))
		r.came <- req.URL.Path
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) await(t *testing.T, path string) {
	t.Helper()
	for {
		select {
		case got := <-r.came:
			if got == path {
				return
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("nothing came at %s", path)
		}
	}
}

// shop is a directory with a captured database, and a configuration of it.
type shop struct {
	dir string
	db  *sql.DB
}

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{dir: t.TempDir()}
	path := filepath.Join(s.dir, "shop.db")
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	s.db = db
	s.exec(t, `CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)`)
	if _, err := sqlite.AddCapture(t.Context(), path, sqlite.Capture{Table: "orders", Entity: "Order"}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *shop) exec(t *testing.T, query string, args ...any) {
	t.Helper()
	if _, err := s.db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func (s *shop) parse(t *testing.T, text string) *config.Config {
	t.Helper()
	head := "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n[network]\nallow = [\"127.0.0.0/8\"]\n"
	cfg, err := config.Parse(filepath.Join(s.dir, "fraiseql-observer.toml"), []byte(head+text), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

func build(t *testing.T, cfg *config.Config) *topology.Topology {
	t.Helper()
	built, err := topology.Build(t.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = built.Close() })
	return built
}

// run starts the relays and the worker and stops them when the test ends.
func run(t *testing.T, built *topology.Topology) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = built.Worker.Run(ctx) })
	running.Go(func() {
		if err := built.Run(ctx); err != nil {
			t.Errorf("run: %v", err)
		}
	})
	stop = sync.OnceFunc(func() { cancel(); running.Wait() })
	t.Cleanup(stop)
	return stop
}

// awaitDead waits until there is a dead letter: entities have lanes of their own.
func awaitDead(t *testing.T, store observer.DeliveryStore) []*observer.Delivery {
	t.Helper()
	return await(t, store, observer.DeliveryFilter{State: observer.Dead})
}

// await waits until something stored matches.
func await(t *testing.T, store observer.DeliveryStore, f observer.DeliveryFilter) []*observer.Delivery {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-tick.C {
		found, err := store.Deliveries(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if len(found) > 0 {
			return found
		}
	}
	t.Fatalf("nothing came that matches %+v", f)
	return nil
}

func observerTo(name, url, more string) string {
	return fmt.Sprintf("[[observers]]\nname = %q\nentity = \"Order\"\n%s\n[[observers.actions]]\ntype = \"webhook\"\nurl = %q\n", name, more, url)
}

func TestOneEventFromCommitToAction(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	built := build(t, s.parse(t, observerTo("shipped", r.URL+"/shipped", `condition = "field_changed_to('status', 'shipped')"`)))
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
}

// doomed runs a topology with an alert, whose one observer is answered with a
// status, and has it deliver a change.
func doomed(t *testing.T, status int) (*shop, *receiver, *topology.Topology) {
	t.Helper()
	s := newShop(t)
	r := newReceiver(t, func(path string) int {
		if path == "/doomed" {
			return status
		}
		return http.StatusOK
	})
	built := build(t, s.parse(t, fmt.Sprintf("[alert]\ntype = \"webhook\"\nurl = %q\n", r.URL+"/alert")+
		observerTo("doomed", r.URL+"/doomed", `on_failure = "alert"`)))
	run(t, built)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	return s, r, built
}

func TestAlertIsDeliveredAboutADeadLetter(t *testing.T) {
	t.Parallel()
	_, r, _ := doomed(t, http.StatusNotFound)
	r.await(t, "/alert")
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := r.bodies["/alert"]; len(got) != 1 || !strings.Contains(got[0], `"observer":"doomed"`) || !strings.Contains(got[0], `"reason":"permanent"`) {
		t.Errorf("alerts %v", got)
	}
}

// A receiver that says it is gone is paused, and both are told: that it is
// paused, and the delivery that is dead.
func TestAlertIsDeliveredAboutAPausedEndpoint(t *testing.T) {
	t.Parallel()
	s, r, built := doomed(t, http.StatusGone)
	r.await(t, "/alert")
	r.await(t, "/alert")
	r.mu.Lock()
	alerts := strings.Join(r.bodies["/alert"], "\n")
	r.mu.Unlock()
	if !strings.Contains(alerts, `"reason":"gone"`) || !strings.Contains(alerts, `"reason":"endpoint_paused"`) {
		t.Errorf("alerts %s", alerts)
	}
	s.exec(t, `INSERT INTO orders VALUES (2, 'new')`)
	waiting := await(t, built.Store, observer.DeliveryFilter{State: observer.Queued})
	if n := r.calls("/doomed"); len(waiting) != 1 || n != 1 {
		t.Errorf("%d calls, and %d deliveries wait, want 1 and 1", n, len(waiting))
	}
}

func TestReloadReplacesObserversAllOrNone(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	built := build(t, s.parse(t, observerTo("old", r.URL+"/old", "")))
	run(t, built)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	r.await(t, "/old")
	if err := built.Reload(s.parse(t, observerTo("new", r.URL+"/new", ""))); err != nil {
		t.Fatal(err)
	}
	s.exec(t, `INSERT INTO orders VALUES (2, 'new')`)
	r.await(t, "/new")
}

func TestStoredDeliveryWhoseActionIsGoneStaysWithTheReason(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	built := build(t, s.parse(t, observerTo("present", "https://example.com", "")))
	for name, d := range map[string]*observer.Delivery{
		"observer": observer.NewDelivery(&observer.Event{ID: "e"}, "removed", 0, "webhook"),
		"action":   observer.NewDelivery(&observer.Event{ID: "e"}, "present", 1, "webhook"),
		"type":     observer.NewDelivery(&observer.Event{ID: "e"}, "present", 0, "email"),
	} {
		d.State = observer.Dead
		if err := built.RunStored(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if d.State != observer.Dead || d.Reason != observer.ReasonUnconfigured || !strings.Contains(d.Error, "put it back or remove") {
			t.Errorf("%s: %s, %s, %s", name, d.State, d.Reason, d.Error)
		}
	}
}

func TestInvariant10RepairedEntryRunsWhenItIsRedriven(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	built := build(t, s.parse(t, observerTo("all", r.URL+"/all", "")))
	s.exec(t, `INSERT INTO tb_entity_change_log (object_type, modification_type, object_id, object_data) VALUES ('Order', 'UPSERT', '1', '{}')`)
	s.exec(t, `INSERT INTO orders VALUES (2, 'new')`)
	run(t, built)
	r.await(t, "/all")
	dead := awaitDead(t, built.Store)
	if len(dead) != 1 || dead[0].Reason != observer.ReasonMalformed {
		t.Fatalf("dead letters %+v", dead)
	}
	if err := built.RunStored(t.Context(), dead[0]); err != nil || dead[0].State != observer.Dead {
		t.Fatalf("redriven unrepaired: %s, %v", dead[0].State, err)
	}
	s.exec(t, `UPDATE tb_entity_change_log SET modification_type = 'INSERT' WHERE modification_type = 'UPSERT'`)
	if err := built.RunStored(t.Context(), dead[0]); err != nil || dead[0].State != observer.Done {
		t.Fatalf("redriven after the repair: %s, %v", dead[0].State, err)
	}
	r.await(t, "/all")
}

func TestScheduledDeliveryRunsLater(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	var calls atomic.Int32
	r := newReceiver(t, func(string) int {
		if calls.Add(1) == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	// The wait exceeds what a lane waits for, so the second attempt is the worker's.
	retry := `retry = { max_attempts = 2, initial_delay_ms = 2100, backoff_strategy = "fixed" }`
	built := build(t, s.parse(t, observerTo("late", r.URL+"/late", retry)))
	stop := run(t, built)
	s.exec(t, `INSERT INTO orders VALUES (1, 'new')`)
	r.await(t, "/late")
	r.await(t, "/late")
	stop()
	stats, err := built.Store.DeliveryStats(t.Context())
	if err != nil || stats.States[observer.Done] != 1 || len(stats.States) != 1 || calls.Load() != 2 {
		t.Errorf("left %+v (%v) after %d calls", stats, err, calls.Load())
	}
	if got := built.Counters.Read(); got.Done != 1 || got.Scheduled != 1 {
		t.Errorf("counts %+v", got)
	}
}

// What refuses a reload is found after its alerts were made: they must not take
// the place of the running ones, whose intervals would begin anew.
func TestRefusedReloadLeavesTheRunningAlerts(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusNotFound })
	parse := func(interval string) *config.Config {
		return s.parse(t, fmt.Sprintf("[alert]\ntype = \"webhook\"\nurl = %q\nmin_interval = %q\n", r.URL+"/alert", interval)+
			observerTo("doomed", r.URL+"/missing", `on_failure = "alert"`))
	}
	built := build(t, parse("1h"))
	fail := func(id string, alerts int) {
		t.Helper()
		if err := built.Executor.Handle(t.Context(), order(id, "new")); err != nil {
			t.Fatal(err)
		}
		raised, err := built.Store.Deliveries(t.Context(), observer.DeliveryFilter{Observer: "@alert"})
		if err != nil || len(raised) != alerts {
			t.Errorf("after %s: %d alerts, %v; want %d", id, len(raised), err, alerts)
		}
	}
	fail("first", 1)
	refused := parse("2h")
	refused.Observers[0].Condition = "("
	if err := built.Reload(refused); err == nil {
		t.Fatal("a condition that is none was accepted")
	}
	fail("refused", 1)
	if err := built.Reload(parse("1h")); err != nil {
		t.Fatal(err)
	}
	fail("again", 1)
	if err := built.Reload(parse("2h")); err != nil {
		t.Fatal(err)
	}
	fail("changed", 2)
}
