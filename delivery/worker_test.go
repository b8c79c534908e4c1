package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

func TestWorkerRunsWhatIsDueWhenItIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r, now := newStore(), newRan(nil), time.Now()
		put(t, store, made("now", observer.Scheduled), made("queued", observer.Queued), made("unknown", observer.Unknown),
			made("soon", observer.Scheduled, at(now.Add(300*time.Millisecond))),
			made("later", observer.Scheduled, at(now.Add(time.Hour))), made("dead", observer.Dead))
		_, stop := work(t, store, r)
		<-time.After(2 * time.Hour)
		stop()
		if d := cmp.Diff([]string{"later at 1h0m0s", "now at 0s", "queued at 0s", "soon at 300ms", "unknown at 0s"}, r.all()); d != "" {
			t.Errorf("runs (-want +got):\n%s", d)
		}
		if d := cmp.Diff(map[observer.State]int{observer.Dead: 1, observer.Done: 5}, states(t, store)); d != "" {
			t.Error(d)
		}
	})
}

func TestWorkerIsWoken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(nil)
		w, stop := work(t, store, r)
		<-time.After(10500 * time.Millisecond)
		put(t, store, made("now", observer.Queued))
		w.Wake()
		synctest.Wait()
		if d := cmp.Diff([]string{"now at 10.5s"}, r.all()); d != "" {
			t.Error(d)
		}
		stop()
	})
}

// Other processes cannot wake this one.
func TestWorkerPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(nil)
		_, stop := work(t, store, r)
		<-time.After(10300 * time.Millisecond)
		put(t, store, made("now", observer.Queued))
		<-time.After(time.Second)
		if d := cmp.Diff([]string{"now at 11s"}, r.all()); d != "" {
			t.Error(d)
		}
		stop()
	})
}

func TestWorkerStoresWhatFailedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		r := newRan(func(_ context.Context, d *observer.Delivery) error {
			d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
			if len(d.Attempts) == 3 {
				d.Bury(errors.New("no"))
				return nil
			}
			d.Retry(errors.New("not yet"), time.Now().Add(time.Minute))
			return nil
		})
		key := put(t, store, made("e", observer.Scheduled))
		_, stop := work(t, store, r)
		<-time.After(time.Hour)
		stop()
		if d := stored(t, store, key); d.State != observer.Dead || len(d.Attempts) != 3 || d.LeaseOwner != "" {
			t.Errorf("stored %+v", d)
		}
		if d := cmp.Diff([]string{"e at 0s", "e at 1m0s", "e at 2m0s"}, r.all()); d != "" {
			t.Error(d)
		}
	})
}

// The chain decides from where a delivery came and what it says of itself.
func TestRunBeginsUndecided(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		put(t, store, made("e", observer.Scheduled))
		var state, from observer.State
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: func(ctx context.Context, d *observer.Delivery) error {
			state, from = d.State, d.ClaimedFrom
			return succeed(ctx, d)
		}})
		synctest.Wait()
		stop()
		if state != observer.Running || from != observer.Scheduled {
			t.Errorf("it began as %q, from %q", state, from)
		}
	})
}

func TestLongRunKeepsItsLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(takes(10*time.Minute))
		put(t, store, made("e", observer.Scheduled))
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
		store := newStore()
		var cut error
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			<-ctx.Done()
			cut = context.Cause(ctx)
			d.Retry(ctx.Err(), time.Now())
			return nil
		})
		key := put(t, store, made("e", observer.Scheduled))
		_, stop := work(t, store, r)
		synctest.Wait()
		d := stored(t, store, key)
		d.Succeed()
		if err := store.UpdateDelivery(t.Context(), d, d.LeaseOwner); err != nil { // as if taken over and done elsewhere
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		stop()
		if !errors.Is(cut, observer.ErrBusy) && !errors.Is(cut, observer.ErrNotFound) {
			t.Errorf("the run ended with %v", cut)
		}
		if d := stored(t, store, key); d.State != observer.Done || len(r.all()) != 1 {
			t.Errorf("it is %s after %v", d.State, r.all())
		}
	})
}

func TestTwoWorkersShareAStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r1, r2 := newStore(), newRan(takes(time.Second)), newRan(takes(time.Second))
		for i := range 10 {
			put(t, store, many(100, fmt.Sprint("e", i))...)
		}
		_, stop1 := work(t, store, r1)
		_, stop2 := work(t, store, r2)
		<-time.After(11 * time.Second)
		stop1()
		stop2()
		n1, n2 := len(r1.all()), len(r2.all())
		if n1+n2 != 1000 || n1 < 400 || n2 < 400 {
			t.Errorf("they ran %d and %d of 1000 within 11 s", n1, n2)
		}
		if d := cmp.Diff(map[observer.State]int{observer.Done: 1000}, states(t, store)); d != "" {
			t.Error(d)
		}
	})
}

func TestBatchSizeBoundsAClaim(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := &flaky{Store: newStore()}, newRan(takes(time.Hour))
		for i := range 10 {
			put(t, store, many(1, fmt.Sprint("e", i))...)
		}
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, BatchSize: 4})
		synctest.Wait()
		if n := store.claims.Load(); len(r.all()) != 10 || n != 3 {
			t.Errorf("%d ran after %d claims, want 10 after 3", len(r.all()), n)
		}
		stop()
	})
}

// What is due and has no room must not keep the worker busy.
func TestWorkerSleepsWhileThereIsNoRoom(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]delivery.WorkerConfig{
		"no place":             {Concurrency: 1},
		"no room in the queue": {Queues: map[string]int{"q": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, r := &flaky{Store: newStore()}, newRan(takes(100500*time.Millisecond))
				put(t, store, many(3, "e", in("q"))...)
				cfg.Store, cfg.Run, cfg.Lease = store, r.run, time.Hour
				_, stop := begin(t, cfg)
				<-time.After(100 * time.Second)
				if asked := store.claims.Load() + store.nexts.Load(); asked > 420 {
					t.Errorf("the store was asked %d times in 100 s", asked)
				}
				<-time.After(105 * time.Second)
				stop()
				if d := cmp.Diff([]string{"e-0 at 0s", "e-1 at 1m40.5s", "e-2 at 3m21s"}, r.all()); d != "" {
					t.Errorf("a place is not used as soon as it is free:\n%s", d)
				}
			})
		})
	}
}

// always says that something is due which cannot be claimed, as when others are
// faster or a row is locked.
type always struct{ *flaky }

func (s always) NextDue(context.Context, observer.Room) (time.Time, error) {
	s.nexts.Add(1)
	return time.Now().Add(-time.Hour), nil
}

func TestWorkerIsNotHotWhenOthersAreFaster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := always{&flaky{Store: newStore()}}
		_, stop := work(t, store, newRan(nil))
		<-time.After(100 * time.Second)
		stop()
		if n := store.nexts.Load(); n < 90 || n > 130 {
			t.Errorf("asked %d times in 100 s", n)
		}
	})
}

func TestPanicOfTheChainEndsOneDelivery(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		before, after := made("before", observer.Queued), made("after", observer.Queued)
		put(t, store, before, after, made("good", observer.Queued))
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: func(ctx context.Context, d *observer.Delivery) error {
			switch d.Event.ID {
			case "after":
				_ = succeed(ctx, d)
				fallthrough
			case "before":
				var nobody *observer.Delivery
				d.Key = nobody.Key
			}
			return succeed(ctx, d)
		}})
		<-time.After(time.Hour)
		stop()
		for _, key := range []string{before.Key, after.Key} {
			d := stored(t, store, key)
			if d.State != observer.Dead || len(d.Attempts) != 1 || !strings.Contains(d.Attempts[0].Stack, "worker_test.go") ||
				!strings.Contains(d.Error, "panicked: runtime error") {
				t.Errorf("%s: %+v", key, d)
			}
		}
		if d := cmp.Diff(map[observer.State]int{observer.Done: 1, observer.Dead: 2}, states(t, store)); d != "" {
			t.Error(d)
		}
	})
}

// What could not run at all is where it was, and tried again after a while.
func TestRunThatFailsLeavesTheDeliveryWhereItWas(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]delivery.Run{
		"fails": func(_ context.Context, d *observer.Delivery) error {
			d.Bury(errors.New("half decided"))
			return errors.New("the database is away")
		},
		"decides nothing": func(context.Context, *observer.Delivery) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, r := newStore(), newRan(run)
				key := put(t, store, made("e", observer.Unknown, func(d *observer.Delivery) { d.Error = "no answer" }))
				_, stop := work(t, store, r)
				<-time.After(150 * time.Second)
				d := stored(t, store, key)
				stop()
				if d.State != observer.Unknown || d.Error != "no answer" || d.Reason != "" || len(d.Attempts) != 0 || d.Lost != 0 {
					t.Errorf("it is %+v", d)
				}
				if d := cmp.Diff([]string{"e at 0s", "e at 1m0s", "e at 2m0s"}, r.all()); d != "" {
					t.Error(d)
				}
			})
		})
	}
}

// Invariant 5: a process that was paused, or cut off from its store, for longer
// than the lease does not know whether the delivery is still its own. It asks
// before it sends, and sends nothing when there is no answer.
func TestInvariant5ClaimThatRanOutIsAskedFor(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		away time.Duration // how long the store is away from the claim on
		want error
	}{
		"the lease was kept":         {0, nil},
		"the store is back in time":  {30 * time.Second, nil},
		"the store is away till now": {time.Hour, observer.ErrFenced},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &flaky{Store: newStore()}
				var got error
				r := newRan(func(ctx context.Context, d *observer.Delivery) error {
					if tt.away > 0 {
						store.away(tt.away)
					}
					<-time.After(3 * time.Minute)
					got = observer.Fence(ctx)
					if got == nil {
						d.Succeed()
					} else {
						d.Retry(got, time.Now().Add(24*time.Hour))
					}
					return nil
				})
				put(t, store, made("e", observer.Scheduled))
				_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Lease: time.Minute})
				<-time.After(2 * time.Hour)
				stop()
				if !errors.Is(got, tt.want) {
					t.Errorf("before the attempt: %v, want %v", got, tt.want)
				}
			})
		})
	}
}
