package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// aged is a process that runs what is stored, and gives it up after an hour.
type aged struct {
	store observer.StateStore
	down  atomic.Bool
	calls atomic.Int64
}

// start runs the worker until stop is called.
func (a *aged) start(t *testing.T) (stop func()) {
	t.Helper()
	a.store = memorystore.New(memorystore.Config{})
	l := newLayers(t, a.store, io.Discard)
	l.endpoints = delivery.NewEndpoints(delivery.EndpointsConfig{Store: a.store, DisableAfter: time.Minute, Logger: l.logger})
	retry := config.Retry{MaxAttempts: 1000, InitialDelay: 10 * time.Second, MaxDelay: 10 * time.Second, Backoff: "fixed", MaxAge: time.Hour}
	act := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
		a.calls.Add(1)
		if a.down.Load() {
			return observer.Result{}, errors.New("refused")
		}
		return observer.Result{}, nil
	})
	top := &Topology{layers: l}
	stored := l.storedAction(config.Observer{Name: "o", OnFailure: "dlq"}, config.Action{Type: "test", Retry: retry, OnUnknown: config.OnUnknownRetry}, act, nil)
	top.actions.Store(&actions{stored: map[string][]storedAction{"o": {stored}}})
	worker := delivery.NewWorker(delivery.WorkerConfig{
		Store: a.store, Run: top.RunStored, Bury: top.giveUp, Owner: "test", Endpoints: l.endpoints, Logger: l.logger,
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- worker.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}
}

// put queues n deliveries to one receiver.
func (a *aged) put(t *testing.T, name string, n int) {
	t.Helper()
	for i := range n {
		d := observer.NewDelivery(&observer.Event{ID: fmt.Sprintf("%s-%d", name, i), Operation: observer.Insert}, "o", 0, "test")
		d.Endpoint = "e"
		d.Enqueue(time.Now())
		if _, err := a.store.InsertDeliveries(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
}

func (a *aged) want(t *testing.T, want map[observer.State]int) {
	t.Helper()
	stats, err := a.store.DeliveryStats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, stats.States); d != "" {
		t.Errorf("states: %s", d)
	}
	if n := want[observer.Dead]; n > 0 && stats.DeadByReason[observer.ReasonExpired] != n {
		t.Errorf("dead letters %v, want %d that are expired", stats.DeadByReason, n)
	}
}

// Nothing becomes of what waits behind a pause, whatever its age. When the pause
// ends, what is too old by then is not sent any more.
func TestMaxAgeAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &aged{}
		stop := a.start(t)
		if err := delivery.Pause(t.Context(), a.store, "e"); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Second)
		a.put(t, "old", 5)
		<-time.After(61 * time.Minute)
		a.put(t, "young", 1)
		<-time.After(time.Minute)
		a.want(t, map[observer.State]int{observer.Queued: 6})
		if err := delivery.Resume(t.Context(), a.store, "e"); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		stop()
		a.want(t, map[observer.State]int{observer.Dead: 5, observer.Done: 1})
		if n := a.calls.Load(); n != 1 {
			t.Errorf("%d calls, want that of the young one", n)
		}
	})
}

// A receiver that is paused because it fails is probed once a minute. What is too
// old to be sent is no probe, or sixty of them would keep it paused for an hour
// after it works again.
func TestWhatIsTooOldIsNoProbe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := &aged{}
		a.down.Store(true)
		stop := a.start(t)
		a.put(t, "old", 60)
		<-time.After(59*time.Minute - 500*time.Millisecond) // not at the moment of a probe
		a.want(t, map[observer.State]int{observer.Scheduled: 60})
		<-time.After(30 * time.Second)
		a.put(t, "young", 1)
		<-time.After(time.Minute)
		a.down.Store(false)
		<-time.After(90 * time.Second)
		stop()
		a.want(t, map[observer.State]int{observer.Dead: 60, observer.Done: 1})
	})
}
