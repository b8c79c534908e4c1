package delivery_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// What is done stays done however long the store is away: a lease that ran out
// meanwhile is no reason to do it again.
func TestInvariant6OutcomeOutlivesAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{10 * time.Second, 5 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &flaky{Store: newStore()}
				r := newRan(func(ctx context.Context, d *observer.Delivery) error {
					store.away(outage)
					return succeed(ctx, d)
				})
				key := put(t, store, made("e", observer.Scheduled))
				_, stop := work(t, store, r)
				<-time.After(time.Hour)
				stop()
				if d := cmp.Diff([]string{"e at 0s"}, r.all()); d != "" {
					t.Error(d)
				}
				if d := stored(t, store, key); d.State != observer.Done || len(d.Attempts) != 1 {
					t.Errorf("it is %s after attempts %v", d.State, d.Attempts)
				}
			})
		})
	}
}

// A worker that is asked to stop during an outage does not wait for its end.
func TestWorkerStopsDuringAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			store.away(24 * time.Hour)
			return succeed(ctx, d)
		})
		put(t, store, made("e", observer.Scheduled))
		_, stop := work(t, store, r)
		<-time.After(30 * time.Minute)
		began := time.Now()
		stop()
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s, longer than its drain timeout and a moment", took)
		}
	})
}

// again is a store that goes away once more after the first claim of what ran
// while it was.
type again struct {
	*flaky
	once sync.Once
}

func (a *again) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	d, err := a.flaky.ClaimDelivery(ctx, key, owner, lease)
	if err == nil {
		a.once.Do(func() { a.away(10 * time.Minute) })
	}
	return d, err
}

// Claiming again what one has run is no attempt, however often it takes.
func TestReclaimingIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &again{flaky: &flaky{Store: newStore()}}
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			store.away(65 * time.Second)
			return succeed(ctx, d)
		})
		key := put(t, store, made("e", observer.Queued))
		_, stop := work(t, store, r)
		<-time.After(time.Hour)
		stop()
		if d := stored(t, store, key); d.State != observer.Done || len(d.Attempts) != 1 || len(r.all()) != 1 {
			t.Errorf("it is %s after attempts %+v", d.State, d.Attempts)
		}
	})
}

// spoiled is a store that can never keep the outcome of one delivery.
type spoiled struct{ *memorystore.Store }

func (s spoiled) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	if d.Event.ID == "bad" {
		return errors.New("row is too big")
	}
	return s.Store.UpdateDelivery(ctx, d, owner)
}

func TestOutcomeThatCannotBeStoredDoesNotEndTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := spoiled{newStore()}, newRan(nil)
		put(t, store, made("bad", observer.Scheduled), made("good", observer.Scheduled, at(time.Now().Add(time.Minute))))
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
		store := &flaky{Store: newStore()}
		key := put(t, store, made("e", observer.Dead))
		cfg := delivery.RedriveConfig{Store: store, Run: longer, Owner: "cli", Logger: quiet()}
		time.AfterFunc(time.Second, func() { store.away(50 * time.Second) })
		time.AfterFunc(40*time.Second, func() {
			d, err := store.Store.ClaimDelivery(t.Context(), key, "elsewhere", time.Second)
			if err != nil {
				t.Error(err)
				return
			}
			d.State, d.Error = observer.Dead, "refused elsewhere"
			if err := store.Store.UpdateDelivery(t.Context(), d, "elsewhere"); err != nil {
				t.Error(err)
			}
		})
		if _, err := delivery.Redrive(t.Context(), cfg, key); !errors.Is(err, observer.ErrBusy) {
			t.Errorf("error %v, want busy", err)
		}
		if d := stored(t, store, key); d.State != observer.Dead || d.Error != "refused elsewhere" || d.LeaseOwner != "" {
			t.Errorf("left %+v", d)
		}
	})
}

// longer takes longer than an outage during which its lease cannot be extended.
func longer(ctx context.Context, d *observer.Delivery) error {
	<-time.After(time.Minute)
	return succeed(ctx, d)
}

// Who claimed the delivery meanwhile and died may have sent it: that is an
// attempt beside the one whose outcome is stored now.
func TestClaimThatWasLostMeanwhileIsAnAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		key := put(t, store, made("e", observer.Dead))
		cfg := delivery.RedriveConfig{Store: store, Run: longer, Owner: "cli", Logger: quiet()}
		time.AfterFunc(time.Second, func() { store.away(50 * time.Second) })
		time.AfterFunc(40*time.Second, func() {
			if _, err := store.Store.ClaimDelivery(t.Context(), key, "elsewhere", time.Second); err != nil {
				t.Error(err)
			}
		})
		if _, err := delivery.Redrive(t.Context(), cfg, key); err != nil {
			t.Error(err)
		}
		d := stored(t, store, key)
		if d.State != observer.Done || len(d.Attempts) != 2 || d.Attempts[0].Unknown || !d.Attempts[1].Unknown || d.Attempts[1].Number != 2 {
			t.Errorf("it is %s after attempts %+v", d.State, d.Attempts)
		}
	})
}
