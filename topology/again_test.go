package topology_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/topology"
)

func order(id, status string) *observer.Event {
	return &observer.Event{
		ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: "1",
		Data: []byte(`{"status":"` + status + `"}`), Timestamp: time.Now().Add(time.Hour), // as an application may write it
	}
}

func (r *receiver) calls(path string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.bodies[path])
}

// Between storing a delivery and saving the checkpoint a process can be killed.
// The event is then read again, and its delivery must not run beside the stored
// one, nor leave a dead letter of something that was delivered.
func TestInvariant7StoredDeliveryIsNotRunAgainWhenItsEventIsReadAgain(t *testing.T) {
	t.Parallel()
	for _, state := range []observer.State{observer.Scheduled, observer.Queued, observer.Unknown, observer.Dead} {
		t.Run(string(state), func(t *testing.T) {
			t.Parallel()
			s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
			cfg := s.parse(t, observerTo("kept", r.URL+"/kept", "")+observerTo("free", r.URL+"/free", ""))
			earlier := build(t, cfg)
			e := order("e", "new")
			d := observer.NewDelivery(e, "kept", 0, "webhook")
			d.State, d.RunAt, d.Attempts = state, time.Now().Add(time.Hour), []observer.Attempt{{Number: 1, Error: "refused"}}
			if _, err := earlier.Store.InsertDeliveries(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			built := build(t, cfg)
			if err := built.Executor.Handle(t.Context(), e); err != nil {
				t.Fatal(err)
			}
			if kept, free := r.calls("/kept"), r.calls("/free"); kept != 0 || free != 1 {
				t.Errorf("%d calls for the stored delivery and %d for the other, want 0 and 1", kept, free)
			}
			if got, err := built.Store.Delivery(t.Context(), d.Key); err != nil || got.State != state || len(got.Attempts) != 1 {
				t.Errorf("stored %+v, %v", got, err)
			}
		})
	}
}

// Applications may write the times of their entries themselves, so those decide
// nothing.
func TestInvariant7StoredDeliveryOfAnEntryWithAFutureTimeIsNotRunAgain(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
	cfg := s.parse(t, observerTo("kept", r.URL+"/kept", "")+observerTo("free", r.URL+"/free", ""))
	earlier := build(t, cfg)
	const id = "0191e8a0-0000-7000-8000-000000000001"
	s.exec(t, `INSERT INTO tb_entity_change_log (id, object_type, modification_type, object_id, object_data, created_at)
		VALUES (?, 'Order', 'INSERT', '1', '{"status":"new"}', '2999-01-01 00:00:00')`, id)
	d := observer.NewDelivery(order(id, "new"), "kept", 0, "webhook")
	d.State = observer.Dead
	if _, err := earlier.Store.InsertDeliveries(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	stop := run(t, build(t, cfg))
	r.await(t, "/free")
	stop()
	if kept := r.calls("/kept"); kept != 0 {
		t.Errorf("%d calls for the stored delivery", kept)
	}
}

// What could not be evaluated has not been wanted yet: a retry asks first.
func TestRetryOfAConditionThatFailedEvaluatesIt(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		condition string
		state     observer.State
		calls     int
	}{
		"matches now":  {`data.status == 'new'`, observer.Done, 1},
		"does not":     {`data.status == 'shipped'`, observer.Done, 0},
		"fails again":  {`data.stauts == 'new'`, observer.Dead, 0},
		"is gone":      {``, observer.Done, 1},
		"is unchanged": {`data.missing == 1`, observer.Dead, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusOK })
			built := build(t, s.parse(t, observerTo("picky", r.URL+"/picky", `condition = "data.missing == 1"`)))
			d := failedCondition(t, built)
			if err := built.Reload(s.parse(t, observerTo("picky", r.URL+"/picky", `condition = "`+tt.condition+`"`))); err != nil {
				t.Fatal(err)
			}
			if err := built.RunStored(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if d.State != tt.state || r.calls("/picky") != tt.calls {
				t.Errorf("%s (%s) after %d calls, want %s after %d", d.State, d.Error, r.calls("/picky"), tt.state, tt.calls)
			}
			if d.State == observer.Dead && d.Reason != observer.ReasonCondition {
				t.Errorf("reason %s", d.Reason)
			}
		})
	}
}

func failedCondition(t *testing.T, built *topology.Topology) *observer.Delivery {
	t.Helper()
	if err := built.Executor.Handle(t.Context(), order("e", "new")); err != nil {
		t.Fatal(err)
	}
	d, err := built.Store.Delivery(t.Context(), observer.DeliveryKey("e", "picky", 0))
	if err != nil || d.Reason != observer.ReasonCondition {
		t.Fatalf("dead letter %+v, %v", d, err)
	}
	return d
}

// The dead letter that is retried takes up room itself: when its event fails
// while there is no more, waiting for room would be waiting for itself.
func TestRetryOfARepairedEntryDoesNotWaitForRoom(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newReceiver(t, func(string) int { return http.StatusUnprocessableEntity })
	built := build(t, s.parse(t, "[dead_letters]\nmax_items = 1\n"+observerTo("all", r.URL+"/all", "")))
	s.exec(t, `INSERT INTO tb_entity_change_log (object_type, modification_type, object_id, object_data) VALUES ('Order', 'UPSERT', '1', '{}')`)
	stop := run(t, built)
	dead := awaitDead(t, built.Store)
	stop()
	s.exec(t, `UPDATE tb_entity_change_log SET modification_type = 'INSERT'`)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := built.RunStored(ctx, dead[0]); err != nil || dead[0].State != observer.Done {
		t.Fatalf("%s, %v", dead[0].State, err)
	}
	stored, err := built.Store.Deliveries(t.Context(), observer.DeliveryFilter{Observer: "all"})
	if err != nil || len(stored) != 1 || stored[0].State != observer.Scheduled {
		t.Errorf("stored %+v, %v", stored, err)
	}
}
