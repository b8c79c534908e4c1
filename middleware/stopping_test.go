package middleware_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// draining is a context of a process that is asked to stop after some time and
// stopped by force after some more.
func draining(t *testing.T, asked, forced time.Duration) context.Context {
	t.Helper()
	drain := make(chan struct{})
	time.AfterFunc(asked, func() { close(drain) })
	ctx, cancel := context.WithTimeout(t.Context(), asked+forced)
	t.Cleanup(cancel)
	return observer.WithDrain(ctx, drain)
}

// An event with one delivery that cannot be recorded is handled again after the
// restart, its finished deliveries included. So a delivery that finds no room
// among the dead letters is scheduled, for which there always is room.
func TestInvariant7FullStoreAtTheEndSchedulesWhatFailed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, alerts := fullStore(t), 0
		pass := newPass(t, store)
		pass.Dead = func(context.Context, *observer.Delivery) { alerts++ }
		d, began := newDelivery(), time.Now()
		if err := failing(pass).handle(draining(t, time.Minute, time.Minute), d); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != time.Minute {
			t.Errorf("it waited %s for room, want until the process was asked to stop", took)
		}
		stored, err := store.Delivery(t.Context(), d.Key)
		if err != nil || stored.State != observer.Scheduled || stored.Reason != "" || len(stored.Attempts) != 1 {
			t.Errorf("stored %+v, %v", stored, err)
		}
		if alerts != 0 {
			t.Error("an alert about what is no dead letter yet")
		}
	})
}

// What was not tried has had no effect and has no outcome to keep.
func TestFullStoreAtTheEndLeavesWhatWasNotTried(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		pass := newPass(t, fullStore(t))
		d := newDelivery()
		d.Bury(errors.New("no such field"))
		if err := pass.Stored(draining(t, time.Minute, time.Minute), d); !errors.Is(err, observer.ErrFull) {
			t.Errorf("error %v, want the store's", err)
		}
	})
}

func TestInvariant2FailuresAreKeptBeforeTheyCountAsHandled(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		back time.Duration
		kept int
	}{
		"back in time":     {70 * time.Second, 1},
		"back at the end":  {90 * time.Second, 1},
		"not back at all":  {time.Hour, 0},
		"there all along":  {0, 1},
		"back before that": {30 * time.Second, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, began := &kept{}, time.Now()
				pass := newPass(t, memorystore.New(memorystore.Config{}))
				pass.Keep = func(ctx context.Context, d *observer.Delivery) error {
					if time.Since(began) < tt.back {
						return errors.New("disk is full")
					}
					return store.keep(ctx, d)
				}
				err := failing(pass).handle(draining(t, time.Minute, 30*time.Second), newDelivery())
				if len(store.deliveries) != tt.kept || (err == nil) != (tt.kept == 1) {
					t.Errorf("kept %d, error %v", len(store.deliveries), err)
				}
				if took := time.Since(began); took > 90*time.Second || tt.kept == 1 && took < tt.back {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}

// An alert that could not be stored has not been raised.
func TestAlertThatCannotBeStoredDoesNotUseUpTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &kept{}
		alerts := &middleware.Alerts{Name: "@alert", ActionType: "slack", MinInterval: time.Minute, Keep: store.keep, Wake: func() {}, Logger: quiet()}
		store.failures = 1
		alerts.Raise(t.Context(), newDelivery())
		alerts.Raise(t.Context(), newDelivery())
		if len(store.deliveries) != 1 {
			t.Fatalf("%d alerts, want the second", len(store.deliveries))
		}
		fields, err := store.deliveries[0].Event.Fields()
		if err != nil || fields["suppressed"].(interface{ String() string }).String() != "1" {
			t.Errorf("suppressed %v (%v), want the one that could not be stored", fields["suppressed"], err)
		}
	})
}

// The dead letter of an attempt that was cut off is kept, and so is its alert.
func TestAlertIsRaisedWhileTheProcessIsStoppedByForce(t *testing.T) {
	t.Parallel()
	store := &kept{}
	alerts := &middleware.Alerts{Name: "@alert", ActionType: "slack", Keep: store.keep, Wake: func() {}, Logger: quiet()}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	alerts.Raise(ctx, newDelivery())
	if len(store.deliveries) != 1 {
		t.Errorf("%d alerts, want 1", len(store.deliveries))
	}
}

// endless is the context of a lane, which has not ended yet. It counts who waits
// for that.
type endless struct {
	context.Context

	done    chan struct{}
	mu      sync.Mutex
	waiting int
}

func (c *endless) Done() <-chan struct{} { return c.done }

// AfterFunc is what [context.AfterFunc] calls.
func (c *endless) AfterFunc(func()) (stop func() bool) {
	c.add(1)
	return sync.OnceValue(func() bool { c.add(-1); return true })
}

func (c *endless) add(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting += n
}

// The context of a lane lives as long as the process: what has ended must not
// wait for its end, or every attempt stays in memory.
func TestNothingStaysWithTheLane(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		record bool
		takes  time.Duration
	}{
		"ends in its lane":         {false, 0},
		"outlasts its lane":        {false, time.Minute},
		"recorded":                 {true, 0},
		"recorded and outlasts it": {true, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				pass := newPass(t, memorystore.New(memorystore.Config{}))
				pass.Record = tt.record
				lane := &endless{Context: context.WithoutCancel(t.Context()), done: make(chan struct{})}
				if _, err := with(pass, &receiver{takes: tt.takes}).Execute(lane, newDelivery()); err != nil {
					t.Fatal(err)
				}
				<-time.After(time.Hour)
				synctest.Wait()
				if lane.waiting != 0 {
					t.Errorf("%d wait for the end of the lane after the attempt", lane.waiting)
				}
			})
		})
	}
}
