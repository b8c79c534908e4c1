package delivery_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

func redriving(store observer.DeliveryStore, run delivery.Run) delivery.RedriveConfig {
	return delivery.RedriveConfig{Store: store, Run: run, Owner: "person", Logger: quiet()}
}

func stillBroken(_ context.Context, d *observer.Delivery) error {
	d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
	d.Bury(errors.New("still broken"))
	return nil
}

func TestRedrive(t *testing.T) {
	t.Parallel()
	store := newStore()
	key := put(t, store, made("e", observer.Dead))
	if d, err := delivery.Redrive(t.Context(), redriving(store, stillBroken), key); err != nil || d.State != observer.Dead || d.Redrives != 1 {
		t.Fatalf("failing redrive: %v, %v", d, err)
	}
	if d := stored(t, store, key); d.State != observer.Dead || d.Error != "still broken" || d.LeaseOwner != "" || d.Redrives != 1 {
		t.Fatalf("the item after a redrive that failed: %+v", d)
	}
	if d, err := delivery.Redrive(t.Context(), redriving(store, succeed), key); err != nil || d.State != observer.Done || d.Redrives != 2 || d.LeaseOwner != "" {
		t.Fatalf("redrive: %v, %v", d, err)
	}
	if _, err := delivery.Redrive(t.Context(), redriving(store, succeed), key); !errors.Is(err, observer.ErrNotFound) {
		t.Fatalf("redrive of what is done: %v", err)
	}
}

func TestRedriveOfWhatIsNotDeadIsNoRedrive(t *testing.T) {
	t.Parallel()
	for _, state := range []observer.State{observer.Queued, observer.Scheduled, observer.Unknown} {
		store := newStore()
		key := put(t, store, made("e", state, at(time.Now().Add(time.Hour))))
		if d, err := delivery.Redrive(t.Context(), redriving(store, succeed), key); err != nil || d.State != observer.Done || d.Redrives != 0 {
			t.Errorf("%s: %+v, %v", state, d, err)
		}
	}
}

func TestTwoRedrivesAtOnceFireOnce(t *testing.T) {
	t.Parallel()
	store := newStore()
	key := put(t, store, made("e", observer.Dead))
	started, release := make(chan struct{}), make(chan struct{})
	slow := newRan(func(ctx context.Context, d *observer.Delivery) error {
		close(started)
		<-release
		return succeed(ctx, d)
	})
	ended := make(chan error, 1)
	go func() {
		_, err := delivery.Redrive(t.Context(), redriving(store, slow.run), key)
		ended <- err
	}()
	<-started
	if _, err := delivery.Redrive(t.Context(), redriving(store, slow.run), key); !errors.Is(err, observer.ErrBusy) {
		t.Errorf("second redrive: %v", err)
	}
	close(release)
	if err := <-ended; err != nil || len(slow.all()) != 1 {
		t.Errorf("first redrive: %v, %d runs", err, len(slow.all()))
	}
}

// A redrive that could not run leaves the dead letter as it was, and free for
// the next one.
func TestRedriveThatCannotRunGivesTheClaimBack(t *testing.T) {
	t.Parallel()
	store := newStore()
	key := put(t, store, made("e", observer.Dead, func(d *observer.Delivery) { d.Reason, d.Error = observer.ReasonPermanent, "no" }))
	broken := func(context.Context, *observer.Delivery) error { return errors.New("the database is away") }
	for range 2 {
		if _, err := delivery.Redrive(t.Context(), redriving(store, broken), key); err == nil || errors.Is(err, observer.ErrBusy) {
			t.Errorf("error %v, want that of the run", err)
		}
	}
	if d := stored(t, store, key); d.State != observer.Dead || d.Error != "no" || d.Redrives != 0 || d.Lost != 0 || len(d.Attempts) != 0 {
		t.Errorf("left %+v", d)
	}
}

func TestRedriveInALane(t *testing.T) {
	t.Parallel()
	blocking := func(d *observer.Delivery) { d.Order, d.BlockWhenDead = observer.OrderStrict, true }
	elsewhere := func(d *observer.Delivery) { d.Event.EntityID = "2" }
	tests := map[string]struct {
		before, after []*observer.Delivery
		blocked       string
	}{
		"alone":                {nil, nil, ""},
		"another one earlier":  {[]*observer.Delivery{made("a", observer.Scheduled, strict)}, nil, "a/o/0 is scheduled"},
		"another one dead":     {[]*observer.Delivery{made("a", observer.Dead, strict)}, nil, ""},
		"another one blocks":   {[]*observer.Delivery{made("a", observer.Dead, blocking)}, nil, "a/o/0 is dead"},
		"one behind it waits":  {nil, []*observer.Delivery{made("z", observer.Queued, blocking)}, ""},
		"one behind it dead":   {nil, []*observer.Delivery{made("z", observer.Dead, blocking)}, ""},
		"of another entity":    {[]*observer.Delivery{made("a", observer.Scheduled, strict, elsewhere)}, nil, ""},
		"one that has no lane": {[]*observer.Delivery{made("a", observer.Scheduled)}, nil, ""},
		"another action of its event, and one behind": {
			[]*observer.Delivery{made("e", observer.Scheduled, strict, func(d *observer.Delivery) {
				d.Action, d.Key = 1, observer.DeliveryKey("e", "o", 1)
			})},
			[]*observer.Delivery{made("z", observer.Queued, strict)}, "",
		},
		"another action of its event": {[]*observer.Delivery{made("e", observer.Scheduled, strict, func(d *observer.Delivery) {
			d.Action, d.Key = 1, observer.DeliveryKey("e", "o", 1)
		})}, nil, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := newStore()
			ds := append(slices.Clone(tt.before), made("e", observer.Dead, blocking, func(d *observer.Delivery) { d.Error = "no" }))
			put(t, store, append(ds, tt.after...)...)
			ran := newRan(nil)
			_, err := delivery.Redrive(t.Context(), redriving(store, ran.run), "e/o/0")
			if errors.Is(err, delivery.ErrBlocked) != (tt.blocked != "") || err != nil && !strings.Contains(err.Error(), tt.blocked) {
				t.Errorf("error %v, want %q", err, tt.blocked)
			}
			d := stored(t, store, "e/o/0")
			if tt.blocked == "" && d.State != observer.Done {
				t.Errorf("it is %s", d.State)
			}
			if tt.blocked != "" && (d.State != observer.Dead || d.Error != "no" || d.Redrives != 0 || d.Lost != 0 || len(ran.all()) != 0) {
				t.Errorf("it was not left as it was: %+v", d)
			}
		})
	}
}

// What is on its way in the lane, though it is later, is waited for as well:
// nothing is sent beside it.
func TestRedriveBesideWhatIsOnItsWay(t *testing.T) {
	t.Parallel()
	store := newStore()
	key := put(t, store, made("e", observer.Dead, strict), made("later", observer.Queued, strict))
	_, err := delivery.Redrive(t.Context(), redriving(store, succeed), key)
	if !errors.Is(err, delivery.ErrBlocked) {
		t.Errorf("error %v", err)
	}
}

func TestRedriveAfterACrashCountsIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		key := put(t, store, made("e", observer.Dead))
		crash(t, store, key, 1)
		d, err := delivery.Redrive(t.Context(), redriving(store, stillBroken), key)
		if err != nil || len(d.Attempts) != 2 || !d.Attempts[0].Unknown || d.Attempts[1].Number != 2 {
			t.Errorf("attempts %+v, %v", d.Attempts, err)
		}
	})
}

// meeting is a store at which everybody has claimed before anybody looks around.
type meeting struct {
	*memorystore.Store
	claims sync.WaitGroup
}

func (m *meeting) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	d, err := m.Store.ClaimDelivery(ctx, key, owner, lease)
	m.claims.Done()
	m.claims.Wait()
	return d, err
}

func TestOfRedrivesOfALaneTheEarliestGoes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &meeting{Store: newStore()}
		blocking := func(d *observer.Delivery) { d.Order, d.BlockWhenDead = observer.OrderStrict, true }
		put(t, store, made("a", observer.Dead, blocking), made("b", observer.Dead, strict), made("c", observer.Dead, strict))
		store.claims.Add(3)
		ended := map[string]chan error{"a/o/0": make(chan error, 1), "b/o/0": make(chan error, 1), "c/o/0": make(chan error, 1)}
		for key, end := range ended {
			go func() {
				_, err := delivery.Redrive(t.Context(), redriving(store, succeed), key)
				end <- err
			}()
		}
		if err := <-ended["a/o/0"]; err != nil {
			t.Errorf("the earliest: %v", err)
		}
		for _, key := range []string{"b/o/0", "c/o/0"} {
			if err := <-ended[key]; !errors.Is(err, delivery.ErrBlocked) {
				t.Errorf("%s: %v, want ErrBlocked", key, err)
			}
			if d := stored(t, store, key); d.State != observer.Dead || d.Redrives != 0 || d.Lost != 0 {
				t.Errorf("%s was not left as it was: %+v", key, d)
			}
		}
	})
}

// A later one that a person has on its way is not joined: one that ends soon is
// waited for, any other comes first.
func TestRedriveBesideALaterOne(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		takes time.Duration
		want  error
	}{
		"that ends soon": {time.Second, nil},
		"that is slow":   {time.Minute, delivery.ErrBlocked},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, ran := newStore(), newRan(takes(tt.takes))
				put(t, store, made("a", observer.Dead, strict), made("b", observer.Dead, strict))
				later := make(chan error, 1)
				go func() {
					_, err := delivery.Redrive(t.Context(), redriving(store, ran.run), "b/o/0")
					later <- err
				}()
				synctest.Wait() // it runs
				if _, err := delivery.Redrive(t.Context(), redriving(store, ran.run), "a/o/0"); !errors.Is(err, tt.want) {
					t.Errorf("error %v, want %v", err, tt.want)
				}
				if err := <-later; err != nil || ran.atOnce("all") != 1 {
					t.Errorf("the later one: %v; %d at once", err, ran.atOnce("all"))
				}
			})
		})
	}
}

// A person who edits a later one holds it for a moment only.
func TestRedriveBesideAnEditOfALaterOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		put(t, store, made("a", observer.Dead, strict), made("b", observer.Dead, strict))
		edited := make(chan error, 1)
		go func() {
			edited <- delivery.Edit(t.Context(), store, "b/o/0", func(json.RawMessage) (json.RawMessage, error) {
				<-time.After(time.Second)
				return json.RawMessage(`{"body":"b"}`), nil
			})
		}()
		synctest.Wait() // it holds the claim
		if _, err := delivery.Redrive(t.Context(), redriving(store, succeed), "a/o/0"); err != nil {
			t.Errorf("redrive: %v", err)
		}
		if err := <-edited; err != nil {
			t.Errorf("edit: %v", err)
		}
	})
}
