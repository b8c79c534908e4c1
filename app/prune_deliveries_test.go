package app

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/topology"
)

// keep stores a delivery that is finished now, in a state that is Done or Dead.
func (p *pruned) keep(t *testing.T, id string, state observer.State) {
	t.Helper()
	store := p.topology.Store
	d := observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: id}, "all", 0, "webhook")
	d.State, d.Reason, d.RunAt = observer.Queued, "", time.Now()
	if state == observer.Dead {
		d.State, d.Reason = observer.Dead, observer.ReasonExhausted
	}
	if _, err := store.InsertDeliveries(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	if state == observer.Dead {
		return
	}
	claimed, err := store.ClaimDelivery(t.Context(), d.Key, "test", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	claimed.Succeed()
	if err := store.UpdateDelivery(t.Context(), claimed, "test"); err != nil {
		t.Fatal(err)
	}
}

// wantStored compares the ids of the events whose deliveries are stored.
func (p *pruned) wantStored(t *testing.T, when, want string) {
	t.Helper()
	all, err := p.topology.Store.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatal(err)
	}
	ids := make([]string, len(all))
	for i, d := range all {
		ids[i] = d.Event.ID
	}
	if d := cmp.Diff(want, strings.Join(ids, " ")); d != "" {
		t.Errorf("%s: stored (-want +got):\n%s", when, d)
	}
}

// Finished deliveries leave the store at the age that is configured: what
// succeeded by one, dead letters by another.
func TestPruneRemovesFinishedDeliveries(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ config, hour, month, year string }{
		"defaults":                {"", "done dead", "dead", ""},
		"own ages":                {"[job_queue]\nretention = \"1m\"\n[dead_letters]\nretention = \"2h\"\n", "dead", "", ""},
		"dead letters for ever":   {"[dead_letters]\nretention = \"0\"\n", "done dead", "dead", "dead"},
		"what succeeded for ever": {"[job_queue]\nretention = \"0\"\n[dead_letters]\nretention = \"0\"\n", "done dead", "done dead", "done dead"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := newPruned(t, tt.config, "shop")
				p.keep(t, "done", observer.Done)
				p.keep(t, "dead", observer.Dead)
				for _, step := range []struct {
					wait       time.Duration
					when, want string
				}{
					{0, "at the start", "done dead"},
					{time.Hour + time.Second, "after an hour", tt.hour},
					{29 * day, "after a month", tt.month},
					{365 * day, "after a year", tt.year},
				} {
					<-time.After(step.wait)
					if err := p.pruneDeliveries(t.Context()); err != nil {
						t.Fatal(err)
					}
					p.wantStored(t, step.when, step.want)
				}
				if err := p.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// More than fits into one batch goes in one round, and is said with its number.
func TestPruneRemovesFinishedDeliveriesInBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, "[job_queue]\nretention = \"1m\"\n[dead_letters]\nretention = \"1m\"\n", "shop")
		n := p.keepMany(t, 2*pruneBatch+1)
		<-time.After(2 * time.Minute)
		stop := p.start(t)
		round(0)
		p.wantStored(t, "after one round", "")
		stop()
		if want := fmt.Sprintf("msg=\"finished deliveries pruned\" rows=%d\n", n); !strings.Contains(p.log.String(), want) {
			t.Errorf("log:\n%s\nwant %s", &p.log, want)
		}
	})
}

// keepMany stores n dead letters, and gives their number.
func (p *pruned) keepMany(t *testing.T, n int) int {
	t.Helper()
	all := make([]*observer.Delivery, n)
	for i := range all {
		id := strconv.Itoa(i)
		all[i] = observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: id}, "all", 0, "webhook")
		all[i].State = observer.Dead
	}
	if _, err := p.topology.Store.InsertDeliveries(t.Context(), all...); err != nil {
		t.Fatal(err)
	}
	return n
}

// A store that cannot be pruned is said, and pruned when that is possible again.
func TestPruneOfDeliveriesTriesAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, "[job_queue]\nretention = \"1m\"\n", "shop")
		p.keep(t, "done", observer.Done)
		<-time.After(2 * time.Minute)
		refuse := func(statement string) {
			t.Helper()
			onFile(t, p.opts.Config.State.FilePath(), func(db *sql.DB) error {
				_, err := db.ExecContext(t.Context(), statement)
				return err
			})
		}
		refuse("CREATE TRIGGER refuse BEFORE DELETE ON tb_delivery BEGIN SELECT RAISE(ABORT, 'not now'); END")
		stop := p.start(t)
		round(0)
		p.wantStored(t, "while it is refused", "done")
		refuse("DROP TRIGGER refuse")
		round(pruneInterval)
		p.wantStored(t, "when it is allowed again", "")
		stop()
		if got := p.log.String(); strings.Count(got, "finished deliveries could not be pruned; trying again later") != 1 || !strings.Contains(got, "not now") {
			t.Errorf("log:\n%s", got)
		}
	})
}

// hanging is a change log whose pruning hangs until its context ends.
type hanging struct{ topology.Source }

func (hanging) Prune(ctx context.Context, _ observer.Position, _ time.Time) (int64, error) {
	<-ctx.Done()
	return 0, ctx.Err()
}

// A change log whose pruning hangs holds up no other, and not what a lane waits
// for whose dead letter was run by a process that was killed.
func TestPruneIsNotHeldUpByAChangeLog(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, `retention = "1s"`, "hangs", "other")
		for i := range 2 {
			p.handled(t, i, observer.Checkpoint{Position: p.record(t, i, day, "a", "b")})
		}
		p.topology.Databases[0].Source = hanging{p.topology.Databases[0].Source}
		parked := p.redriven(t)
		stop := p.start(t)
		defer stop()
		round(0)
		p.want(t, 1, "beside one that hangs", "b")
		if got := p.stateOf(t, parked); got != observer.Parked {
			t.Errorf("while the lease runs: got %s, want parked", got)
		}
		round(2 * pruneInterval)
		if got := p.stateOf(t, parked); got != observer.Queued {
			t.Errorf("within a minute of the end of the lease: got %s, want queued", got)
		}
	})
}

// redriven stores a dead letter in strict order that somebody runs for a minute,
// and one that is parked behind it, whose key it gives.
func (p *pruned) redriven(t *testing.T) (parked string) {
	t.Helper()
	for i, state := range []observer.State{observer.Dead, observer.Queued} {
		d := observer.NewDelivery(&observer.Event{ID: strconv.Itoa(i), Operation: observer.Insert, EntityType: "Order", EntityID: "1"}, "all", 0, "webhook")
		d.State, d.Order = state, observer.OrderStrict
		if _, err := p.topology.Store.InsertDeliveries(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		if parked = d.Key; state == observer.Dead {
			if _, err := p.topology.Store.ClaimDelivery(t.Context(), d.Key, "killed", time.Minute); err != nil {
				t.Fatal(err)
			}
		}
	}
	return parked
}

func (p *pruned) stateOf(t *testing.T, key string) observer.State {
	t.Helper()
	d, err := p.topology.Store.Delivery(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	return d.State
}

// stuck is a store that cannot look after its lanes.
type stuck struct{ observer.StateStore }

func (s stuck) PruneDeliveries(ctx context.Context, r observer.Retention, limit int) (int, error) {
	removed, err := s.StateStore.PruneDeliveries(ctx, r, limit)
	return removed, errors.Join(errors.New("a lane is locked"), err)
}

// What a store removes beside a failure is no reason to stop before all is gone.
func TestPruneGoesOnBesideAFailure(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, "[job_queue]\nretention = \"1m\"\n[dead_letters]\nretention = \"1m\"\n", "shop")
		p.topology.Store = stuck{p.topology.Store}
		p.keepMany(t, pruneBatch+1)
		<-time.After(2 * time.Minute)
		stop := p.start(t)
		round(0)
		p.wantStored(t, "after one round", "")
		stop()
		if got := p.log.String(); strings.Count(got, "finished deliveries could not be pruned; trying again later") != 1 || !strings.Contains(got, "a lane is locked") {
			t.Errorf("log:\n%s", got)
		}
	})
}

// Workers leave it to the daemon.
func TestWorkerOnlyPrunesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPruned(t, "[job_queue]\nretention = \"1m\"\n", "shop")
		p.keep(t, "done", observer.Done)
		opts := p.opts
		opts.WorkerOnly = true
		worker, err := New(t.Context(), opts) // beside p, which holds the lock
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- worker.Run(ctx) }()
		round(3 * pruneInterval)
		p.wantStored(t, "after its retention", "done")
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
}
