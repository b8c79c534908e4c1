package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func put(t *testing.T, store observer.DeliveryStore, id string, state observer.State, due time.Time) string {
	t.Helper()
	d := observer.NewDelivery(&observer.Event{ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: "1"}, "o", 0, "test")
	d.State, d.RunAt = state, due
	if err := store.InsertDelivery(t.Context(), d); err != nil {
		t.Fatal(err)
	}
	return d.Key
}

// ran remembers when what was run.
type ran struct {
	mu    sync.Mutex
	began time.Time
	runs  []string
	end   func(ctx context.Context, d *observer.Delivery) error
}

func (r *ran) run(ctx context.Context, d *observer.Delivery) error {
	r.mu.Lock()
	r.runs = append(r.runs, fmt.Sprintf("%s at %s", d.Event.ID, time.Since(r.began).Round(time.Millisecond)))
	r.mu.Unlock()
	if r.end != nil {
		return r.end(ctx, d)
	}
	d.State = observer.Done
	return nil
}

func (r *ran) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Sorted(slices.Values(r.runs))
}

func work(t *testing.T, store observer.DeliveryStore, r *ran) (w *delivery.Worker, stop func()) {
	t.Helper()
	w = delivery.NewWorker(delivery.WorkerConfig{Store: store, Run: r.run, Owner: "w1", Logger: quiet(), DrainTimeout: 10 * time.Second})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	return w, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("worker: %v", err)
		}
	}
}

func TestWorkerRunsWhatIsDueWhenItIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := memorystore.New(memorystore.Config{}), &ran{began: time.Now()}
		put(t, store, "now", observer.Scheduled, time.Now())
		put(t, store, "soon", observer.Scheduled, time.Now().Add(300*time.Millisecond))
		put(t, store, "later", observer.Scheduled, time.Now().Add(time.Hour))
		put(t, store, "dead", observer.Dead, time.Time{})
		_, stop := work(t, store, r)
		<-time.After(2 * time.Hour)
		stop()
		if d := cmp.Diff([]string{"later at 1h0m0s", "now at 0s", "soon at 300ms"}, r.all()); d != "" {
			t.Errorf("runs (-want +got):\n%s", d)
		}
		stats, err := store.DeliveryStats(t.Context())
		if err != nil || stats.Scheduled != 0 || stats.Dead != 1 {
			t.Errorf("left %+v, %v", stats, err)
		}
	})
}

func TestWorkerIsWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := memorystore.New(memorystore.Config{}), &ran{began: time.Now()}
		w, stop := work(t, store, r)
		synctest.Wait()
		put(t, store, "now", observer.Scheduled, time.Now())
		w.Wake()
		synctest.Wait()
		if d := cmp.Diff([]string{"now at 0s"}, r.all()); d != "" {
			t.Error(d)
		}
		stop()
	})
}

func TestWorkerStoresWhatFailedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		r := &ran{began: time.Now(), end: func(_ context.Context, d *observer.Delivery) error {
			d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
			if len(d.Attempts) == 3 {
				d.State, d.Reason, d.Error = observer.Dead, observer.ReasonExhausted, "no"
				return nil
			}
			d.State, d.RunAt = observer.Scheduled, time.Now().Add(time.Minute)
			return nil
		}}
		key := put(t, store, "e", observer.Scheduled, time.Now())
		_, stop := work(t, store, r)
		<-time.After(time.Hour)
		stop()
		d, err := store.Delivery(t.Context(), key)
		if err != nil || d.State != observer.Dead || len(d.Attempts) != 3 || d.LeaseOwner != "" {
			t.Errorf("stored %+v, %v", d, err)
		}
		if d := cmp.Diff([]string{"e at 0s", "e at 1m0s", "e at 2m0s"}, r.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestLongRunKeepsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		r := &ran{began: time.Now(), end: func(_ context.Context, d *observer.Delivery) error {
			<-time.After(10 * time.Minute)
			d.State = observer.Done
			return nil
		}}
		put(t, store, "e", observer.Scheduled, time.Now())
		_, stop1 := work(t, store, r)
		_, stop2 := work(t, store, r)
		<-time.After(time.Hour)
		stop1()
		stop2()
		if d := cmp.Diff([]string{"e at 0s"}, r.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestLostLeaseStopsTheRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		var cut error
		r := &ran{began: time.Now(), end: func(ctx context.Context, _ *observer.Delivery) error {
			<-ctx.Done()
			cut = context.Cause(ctx)
			return ctx.Err()
		}}
		key := put(t, store, "e", observer.Scheduled, time.Now())
		_, stop := work(t, store, r)
		synctest.Wait()
		d, err := store.Delivery(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := store.CompleteDelivery(t.Context(), key, d.LeaseOwner); err != nil { // as if taken over and done elsewhere
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		stop()
		if !errors.Is(cut, observer.ErrBusy) && !errors.Is(cut, observer.ErrNotFound) {
			t.Errorf("the run ended with %v", cut)
		}
	})
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	cfg := func(r *ran) delivery.RedriveConfig {
		return delivery.RedriveConfig{Store: store, Run: r.run, Owner: "person", Logger: quiet()}
	}
	key := put(t, store, "e", observer.Dead, time.Time{})
	failing := &ran{end: func(_ context.Context, d *observer.Delivery) error {
		d.Error = "still broken"
		return nil
	}}
	if d, err := delivery.Redrive(t.Context(), cfg(failing), key); err != nil || d.State != observer.Dead {
		t.Fatalf("failing redrive: %v, %v", d, err)
	}
	if d, err := store.Delivery(t.Context(), key); err != nil || d.Error != "still broken" || d.LeaseOwner != "" {
		t.Fatalf("the item after a redrive that failed: %+v, %v", d, err)
	}
	if d, err := delivery.Redrive(t.Context(), cfg(&ran{}), key); err != nil || d.State != observer.Done {
		t.Fatalf("redrive: %v, %v", d, err)
	}
	if _, err := delivery.Redrive(t.Context(), cfg(&ran{}), key); !errors.Is(err, observer.ErrNotFound) {
		t.Fatalf("redrive of what is done: %v", err)
	}
}

func TestTwoRedrivesAtOnceFireOnce(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	key := put(t, store, "e", observer.Dead, time.Time{})
	started, release := make(chan struct{}), make(chan struct{})
	slow := &ran{end: func(_ context.Context, d *observer.Delivery) error {
		close(started)
		<-release
		d.State = observer.Done
		return nil
	}}
	ended := make(chan error, 1)
	go func() {
		_, err := delivery.Redrive(t.Context(), delivery.RedriveConfig{Store: store, Run: slow.run, Owner: "same", Logger: quiet()}, key)
		ended <- err
	}()
	<-started
	_, err := delivery.Redrive(t.Context(), delivery.RedriveConfig{Store: store, Run: slow.run, Owner: "same", Logger: quiet()}, key)
	if !errors.Is(err, observer.ErrBusy) {
		t.Errorf("second redrive: %v", err)
	}
	close(release)
	if err := <-ended; err != nil || len(slow.all()) != 1 {
		t.Errorf("first redrive: %v, %d runs", err, len(slow.all()))
	}
}

// TestScheduledRunIsUndecided: the chain reads Scheduled as its own decision to
// put off, so what comes from the store must not look like one.
func TestScheduledRunIsUndecided(t *testing.T) {
	t.Parallel()
	for stored, want := range map[observer.State]observer.State{observer.Scheduled: "", observer.Dead: observer.Dead} {
		store := memorystore.New(memorystore.Config{})
		key := put(t, store, "e", stored, time.Now())
		began := observer.State("not run")
		_, err := delivery.Redrive(t.Context(), delivery.RedriveConfig{
			Store: store, Owner: "w1", Logger: quiet(),
			Run: func(_ context.Context, d *observer.Delivery) error {
				began, d.State = d.State, observer.Done
				return nil
			},
		}, key)
		if err != nil || began != want {
			t.Errorf("a %s delivery began as %q (%v), want %q", stored, began, err, want)
		}
	}
}

// flaky is a store whose outcomes cannot be written for a while.
type flaky struct {
	*memorystore.Store
	until atomic.Pointer[time.Time]
}

func (f *flaky) away(d time.Duration) {
	until := time.Now().Add(d)
	f.until.Store(&until)
}

func (f *flaky) err() error {
	if until := f.until.Load(); until != nil && time.Now().Before(*until) {
		return errors.New("no space left on device")
	}
	return nil
}

func (f *flaky) CompleteDelivery(ctx context.Context, key, owner string) error {
	return unless(f.err(), func() error { return f.Store.CompleteDelivery(ctx, key, owner) })
}

func (f *flaky) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	return unless(f.err(), func() error { return f.Store.UpdateDelivery(ctx, d, owner) })
}

func (f *flaky) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	return unless(f.err(), func() error { return f.Store.ExtendLease(ctx, key, owner, lease) })
}

func (f *flaky) ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]*observer.Delivery, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.ClaimDue(ctx, owner, lease, limit)
}

func (f *flaky) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.ClaimDelivery(ctx, key, owner, lease)
}

func unless(err error, then func() error) error {
	if err != nil {
		return err
	}
	return then()
}

// What is done stays done however long the store is away: a lease that ran out
// meanwhile is no reason to do it again.
func TestInvariant6OutcomeOutlivesAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{10 * time.Second, 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			store := &flaky{Store: memorystore.New(memorystore.Config{})}
			r := &ran{began: time.Now(), end: func(_ context.Context, d *observer.Delivery) error {
				d.State = observer.Done
				store.away(outage)
				return nil
			}}
			put(t, store, "e", observer.Scheduled, time.Now())
			_, stop := work(t, store, r)
			<-time.After(time.Hour)
			stop()
			if d := cmp.Diff([]string{"e at 0s"}, r.all()); d != "" {
				t.Errorf("outage of %s: %s", outage, d)
			}
			if left, err := store.Deliveries(t.Context(), observer.DeliveryFilter{}); err != nil || len(left) != 0 {
				t.Errorf("outage of %s: left %v, %v", outage, left, err)
			}
		})
	}
}

// A worker that is asked to stop during an outage does not wait for its end.
func TestWorkerStopsDuringAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: memorystore.New(memorystore.Config{})}
		r := &ran{began: time.Now(), end: func(_ context.Context, d *observer.Delivery) error {
			d.State = observer.Done
			store.away(24 * time.Hour)
			return nil
		}}
		put(t, store, "e", observer.Scheduled, time.Now())
		_, stop := work(t, store, r)
		<-time.After(time.Hour)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s, longer than its drain timeout and a moment", took)
		}
	})
}

// A redrive that could not run leaves the dead letter free for the next one.
func TestRedriveThatCannotRunGivesTheClaimBack(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	key := put(t, store, "e", observer.Dead, time.Time{})
	broken := func(context.Context, *observer.Delivery) error { return errors.New("the database is away") }
	cfg := delivery.RedriveConfig{Store: store, Run: broken, Owner: "cli", Logger: quiet()}
	for range 2 {
		if _, err := delivery.Redrive(t.Context(), cfg, key); err == nil || errors.Is(err, observer.ErrBusy) {
			t.Errorf("error %v, want that of the run", err)
		}
	}
}

// spoiled is a store that can never keep the outcome of one delivery.
type spoiled struct{ *memorystore.Store }

func (s spoiled) CompleteDelivery(ctx context.Context, key, owner string) error {
	if key == observer.DeliveryKey("bad", "o", 0) {
		return errors.New("row is too big")
	}
	return s.Store.CompleteDelivery(ctx, key, owner)
}

func TestOutcomeThatCannotBeStoredDoesNotEndTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := spoiled{memorystore.New(memorystore.Config{})}
		r := &ran{began: time.Now()}
		put(t, store, "bad", observer.Scheduled, time.Now())
		put(t, store, "good", observer.Scheduled, time.Now().Add(time.Minute))
		_, stop := work(t, store, r)
		<-time.After(90 * time.Minute)
		stop()
		if !slices.ContainsFunc(r.all(), func(s string) bool { return strings.HasPrefix(s, "good at 1h") }) {
			t.Errorf("ran %v", r.all())
		}
	})
}

// While the store is away a delivery can be run elsewhere, after its lease.
func TestOutcomeOfWhatRanElsewhereMeanwhileIsNotStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: memorystore.New(memorystore.Config{})}
		key := put(t, store, "e", observer.Dead, time.Time{})
		run := func(_ context.Context, d *observer.Delivery) error {
			<-time.After(time.Minute) // its lease cannot be extended
			d.State = observer.Done
			return nil
		}
		cfg := delivery.RedriveConfig{Store: store, Run: run, Owner: "cli", Logger: quiet()}
		time.AfterFunc(time.Second, func() { store.away(50 * time.Second) })
		time.AfterFunc(40*time.Second, func() {
			d, err := store.Store.ClaimDelivery(t.Context(), key, "elsewhere", time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			d.Error = "refused elsewhere"
			if err := store.Store.UpdateDelivery(t.Context(), d, "elsewhere"); err != nil {
				t.Error(err)
			}
		})
		if _, err := delivery.Redrive(t.Context(), cfg, key); !errors.Is(err, observer.ErrBusy) {
			t.Errorf("error %v, want busy", err)
		}
		if d, err := store.Delivery(t.Context(), key); err != nil || d.Error != "refused elsewhere" || d.LeaseOwner != "" {
			t.Errorf("left %+v, %v", d, err)
		}
	})
}
