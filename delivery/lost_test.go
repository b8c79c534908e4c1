package delivery_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// crash claims what is stored under key and dies with it, n times.
func crash(t *testing.T, store observer.DeliveryStore, key string, n int) {
	t.Helper()
	for range n {
		if _, err := store.ClaimDelivery(t.Context(), key, "crashed", time.Minute); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
	}
}

func TestLostClaimsAreAttempts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, began := newStore(), time.Now()
		first := observer.Attempt{Number: 1, At: began.Add(-time.Hour).UTC(), Error: "refused"}
		key := put(t, store, made("e", observer.Scheduled, func(d *observer.Delivery) { d.Attempts = []observer.Attempt{first} }))
		crash(t, store, key, 2)
		seen := 0
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: func(ctx context.Context, d *observer.Delivery) error {
			seen = len(d.Attempts)
			return succeed(ctx, d)
		}})
		<-time.After(time.Minute)
		stop()
		lost := began.Add(time.Minute).UTC()
		const died = "the process that made this attempt ended before it stored the outcome"
		want := []observer.Attempt{
			first, {Number: 2, At: lost, Unknown: true, Error: died}, {Number: 3, At: lost, Unknown: true, Error: died}, {Number: 4},
		}
		d := stored(t, store, key)
		if diff := cmp.Diff(want, d.Attempts); diff != "" || seen != 3 || d.Lost != 0 {
			t.Errorf("%d seen by the run, %d lost; attempts (-want +got):\n%s", seen, d.Lost, diff)
		}
	})
}

func TestWhatMayNotBeRepeatedIsBuried(t *testing.T) {
	t.Parallel()
	never := func(*observer.Delivery) bool { return false }
	tests := map[string]struct {
		state     observer.State
		crashes   int
		mayRepeat func(*observer.Delivery) bool
		want      observer.State
		attempts  int
	}{
		"not tried":              {observer.Queued, 0, never, observer.Done, 1},
		"failed":                 {observer.Scheduled, 0, never, observer.Done, 1},
		"lost":                   {observer.Queued, 1, never, observer.Dead, 1},
		"not answered":           {observer.Unknown, 0, never, observer.Dead, 0},
		"not answered and lost":  {observer.Unknown, 2, never, observer.Dead, 2},
		"lost, may be repeated":  {observer.Queued, 1, func(*observer.Delivery) bool { return true }, observer.Done, 2},
		"lost, nothing is said":  {observer.Unknown, 1, nil, observer.Done, 2},
		"not answered, the same": {observer.Unknown, 0, nil, observer.Done, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				key := put(t, store, made("e", tt.state))
				crash(t, store, key, tt.crashes)
				_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: succeed, MayRepeat: tt.mayRepeat})
				<-time.After(time.Minute)
				stop()
				d := stored(t, store, key)
				if d.State != tt.want || len(d.Attempts) != tt.attempts {
					t.Errorf("it is %s after %d attempts, want %s after %d", d.State, len(d.Attempts), tt.want, tt.attempts)
				}
				if (d.Reason == observer.ReasonOutcomeUnknown) != (tt.want == observer.Dead) {
					t.Errorf("the reason is %q: %s", d.Reason, d.Error)
				}
			})
		})
	}
}

// A person who has it run again knows what he does.
func TestRequeueOfWhatMayNotBeRepeatedRuns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		key := put(t, store, made("e", observer.Dead, func(d *observer.Delivery) { d.Reason = observer.ReasonOutcomeUnknown }))
		if _, err := store.RequeueDelivery(t.Context(), key, time.Now()); err != nil {
			t.Fatal(err)
		}
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: succeed, MayRepeat: func(*observer.Delivery) bool { return false }})
		synctest.Wait()
		stop()
		if d := stored(t, store, key); d.State != observer.Done {
			t.Errorf("it is %s: %s", d.State, d.Error)
		}
	})
}

// How a delivery is given up is for the chain to say.
func TestBuryIsAskedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		key := put(t, store, made("e", observer.Unknown))
		_, stop := begin(t, delivery.WorkerConfig{
			Store: store, Run: succeed, MayRepeat: func(*observer.Delivery) bool { return false },
			Bury: func(_ context.Context, d *observer.Delivery, cause error) { d.Drop(cause) },
		})
		synctest.Wait()
		stop()
		if d := stored(t, store, key); d.State != observer.Dropped || d.Reason != observer.ReasonOutcomeUnknown {
			t.Errorf("it is %s for %q", d.State, d.Reason)
		}
	})
}
