package delivery_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	memorystore "github.com/fraiseql/observer/store/memory"
)

func TestBegin(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(nil)
		w, stop := work(t, store, r)
		type key struct{}
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), key{}, "kept"))
		d := made("e", "")
		h, err := w.Begin(ctx, d)
		if err != nil || h == nil {
			t.Fatalf("begin: %v, %v", h, err)
		}
		if again, err := w.Begin(ctx, d); again != nil || err != nil {
			t.Errorf("what is there already: %v, %v", again, err)
		}
		cancel()
		<-time.After(10 * time.Minute)
		if err := h.Context().Err(); err != nil || h.Context().Value(key{}) != "kept" {
			t.Errorf("its context ended with that of the lane: %v", err)
		}
		if d := stored(t, store, d.Key); d.State != observer.Running || d.ClaimedFrom != observer.Unknown || d.Lost != 0 {
			t.Errorf("it is stored as %s, claimed from %s, %d lost", d.State, d.ClaimedFrom, d.Lost)
		}
		outcome := d.Clone()
		_ = succeed(ctx, outcome)
		if err := h.Settle(outcome); err != nil {
			t.Fatal(err)
		}
		if d := stored(t, store, d.Key); d.State != observer.Done || len(d.Attempts) != 1 || len(r.all()) != 0 {
			t.Errorf("it is %s after %d attempts and %v", d.State, len(d.Attempts), r.all())
		}
		stop()
		if _, err := w.Begin(t.Context(), made("after the end", "")); !errors.Is(err, delivery.ErrStopped) {
			t.Errorf("begun after the end: %v", err)
		}
	})
}

// held has d begun by a worker that does not run.
func held(t *testing.T, store observer.DeliveryStore, d *observer.Delivery) *delivery.Held {
	t.Helper()
	w := delivery.NewWorker(delivery.WorkerConfig{Store: store, Run: succeed, Owner: "w", Logger: quiet()})
	h, err := w.Begin(t.Context(), d)
	if err != nil || h == nil {
		t.Fatalf("begin: %v, %v", h, err)
	}
	return h
}

func TestHeldWhoseLeaseIsLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		d := made("e", "")
		h := held(t, store, d)
		<-time.After(time.Second)
		store.away(90 * time.Second)
		<-time.After(75 * time.Second)
		crash(t, store.Store, d.Key, 1)
		if h.Context().Err() == nil {
			t.Error("its context goes on although somebody else has it")
		}
		// That one died as well, so how this one ended is what counts.
		began := time.Now()
		if err := h.Settle(d.Clone()); err == nil || time.Since(began) != 0 {
			t.Errorf("settled without a decision: %v after %s", err, time.Since(began))
		}
		if got := stored(t, store, d.Key); got.State != observer.Unknown || got.Lost != 2 {
			t.Errorf("it is %s with %d lost claims", got.State, got.Lost)
		}
	})
}

// What waits behind a first pass in its lane goes on as soon as that ends.
func TestHeldLetsItsLaneGoOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, r := newStore(), newRan(nil)
		w, stop := work(t, store, r)
		first := made("first", "", strict)
		h, err := w.Begin(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		put(t, store, made("second", observer.Queued, strict))
		<-time.After(1300 * time.Millisecond)
		first.Succeed()
		if err := h.Settle(first); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if d := cmp.Diff([]string{"second at 1.3s"}, r.all()); d != "" {
			t.Error(d)
		}
		stop()
	})
}

func TestHeldIsSettledAfterAnOutage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		d := made("e", "")
		h := held(t, store, d)
		store.away(10 * time.Minute)
		d.Bury(errors.New("refused"))
		if err := h.Settle(d); err != nil {
			t.Fatal(err)
		}
		if got := stored(t, store, d.Key); got.State != observer.Dead || got.Lost != 0 || len(got.Attempts) != 0 {
			t.Errorf("it is %s with %d lost claims", got.State, got.Lost)
		}
	})
}

// What another process ran and stored after the lease was lost stays.
func TestHeldThatRanElsewhereIsBusy(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		d := made("e", "")
		h := held(t, store, d)
		store.away(5 * time.Minute)
		<-time.After(2 * time.Minute)
		cfg := delivery.RedriveConfig{Store: store.Store, Owner: "elsewhere", Logger: quiet(), Run: func(_ context.Context, d *observer.Delivery) error {
			d.Bury(errors.New("refused elsewhere"))
			return nil
		}}
		if _, err := delivery.Redrive(t.Context(), cfg, d.Key); err != nil {
			t.Fatal(err)
		}
		d.Succeed()
		if err := h.Settle(d); !errors.Is(err, observer.ErrBusy) {
			t.Errorf("error %v, want busy", err)
		}
		if got := stored(t, store, d.Key); got.State != observer.Dead || got.Error != "refused elsewhere" || got.LeaseOwner != "" {
			t.Errorf("it is %s: %s", got.State, got.Error)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		drained := make(chan struct{})
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			if d.Event.ID == "quick" {
				<-observer.Drain(ctx)
				close(drained)
				return takes(time.Second)(ctx, d)
			}
			return takes(time.Hour)(ctx, d)
		})
		put(t, store, made("quick", observer.Queued), made("long", observer.Queued))
		w, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, DrainTimeout: 10 * time.Second})
		first, second := made("first pass", ""), made("second", "")
		h, err := w.Begin(t.Context(), first)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			<-h.Context().Done()
			first.Retry(errors.New("cut off"), time.Now())
			if err := h.Settle(first); err != nil {
				t.Error(err)
			}
		}()
		<-time.After(time.Minute)
		began := time.Now()
		time.AfterFunc(5*time.Second, func() {
			h, err := w.Begin(t.Context(), second) // the relay drains as well
			if err != nil {
				t.Error(err)
				return
			}
			second.Succeed()
			if err := h.Settle(second); err != nil {
				t.Error(err)
			}
		})
		time.AfterFunc(time.Second, func() { put(t, store, made("too late", observer.Queued)) })
		stop()
		<-drained
		if took := time.Since(began); took != 10*time.Second {
			t.Errorf("it took %s", took)
		}
		got := map[string]observer.State{}
		for _, d := range everything(t, store) {
			got[d.Event.ID] = d.State
		}
		want := map[string]observer.State{
			"quick": observer.Done, "long": observer.Scheduled, "first pass": observer.Scheduled, "second": observer.Done, "too late": observer.Queued,
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
		if _, err := w.Begin(t.Context(), made("after the end", "")); !errors.Is(err, delivery.ErrStopped) {
			t.Errorf("begun after the end: %v", err)
		}
	})
}

// Invariant 7: relays drain beside the worker, and what they still handle may
// have to be begun.
func TestInvariant7WorkerWaitsForWhatIsAttached(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		after, ends time.Duration
		err         error
	}{
		"in time":  {5 * time.Second, 5 * time.Second, nil},
		"too late": {20 * time.Second, 20 * time.Second, delivery.ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w, stop := begin(t, delivery.WorkerConfig{Store: newStore(), Run: newRan(nil).run, DrainTimeout: 10 * time.Second})
				detach, began := w.Attach(), time.Now()
				time.AfterFunc(tt.after, func() {
					defer detach()
					d := made("late", "")
					h, err := w.Begin(t.Context(), d)
					if !errors.Is(err, tt.err) {
						t.Errorf("error %v, want %v", err, tt.err)
					}
					if err == nil {
						d.Succeed()
						err = h.Settle(d)
					}
					if !errors.Is(err, tt.err) {
						t.Error(err)
					}
					detach() // once more does no harm
				})
				stop()
				if took := time.Since(began); took != tt.ends {
					t.Errorf("it ended after %s", took)
				}
			})
		})
	}
}

// late is a store that answers a claim late.
type late struct {
	*flaky
	claimed func()
}

func (l late) ClaimDue(ctx context.Context, c observer.Claim) ([]*observer.Delivery, error) {
	ds, err := l.flaky.ClaimDue(ctx, c)
	l.claimed()
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	return ds, err
}

func TestClaimedAndNotBegunAtShutdownIsGivenBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		store := late{&flaky{Store: newStore()}, cancel}
		due := time.Now().Add(-time.Minute).UTC()
		queued := put(t, store, made("queued", observer.Queued, at(due)))
		unknown := put(t, store, made("unknown", observer.Unknown, at(due), func(d *observer.Delivery) { d.Error = "no answer" }))
		crash(t, store, unknown, 1)
		r := newRan(nil)
		w := delivery.NewWorker(delivery.WorkerConfig{Store: store, Run: r.run, Owner: "w", Logger: quiet()})
		if err := w.Run(ctx); err != nil {
			t.Fatal(err)
		}
		q, u := stored(t, store, queued), stored(t, store, unknown)
		if q.State != observer.Queued || !q.RunAt.Equal(due) || q.Lost != 0 || len(q.Attempts) != 0 {
			t.Errorf("left %+v", q)
		}
		if u.State != observer.Unknown || u.Error != "no answer" || u.Lost != 0 || len(u.Attempts) != 1 || len(r.all()) != 0 {
			t.Errorf("left %+v after %v", u, r.all())
		}
	})
}

// lossy is a store whose answers get lost.
type lossy struct {
	*memorystore.Store
	begins, updates int // how many of them from now on
}

var errLost = errors.New("connection reset by peer")

func (l *lossy) BeginDelivery(ctx context.Context, d *observer.Delivery, owner string, lease time.Duration) (bool, error) {
	begun, err := l.Store.BeginDelivery(ctx, d, owner, lease)
	if l.begins--; l.begins >= 0 {
		return false, errLost
	}
	return begun, err
}

func (l *lossy) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	err := l.Store.UpdateDelivery(ctx, d, owner)
	if l.updates--; l.updates >= 0 {
		return errLost
	}
	return err
}

func TestBeginWhoseAnswerWasLost(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		lost     int // answers, and the time between two calls
		wait     time.Duration
		claimed  bool
		begun    bool
		attempts int
	}{
		"once":                     {1, 0, false, true, 1},
		"twice":                    {2, 0, false, true, 1},
		"shortly before its end":   {1, 59 * time.Second, false, true, 1},
		"until after its end":      {25, 5 * time.Second, false, true, 1},
		"and somebody else has it": {25, 5 * time.Second, true, false, 3},
		"and nobody asks again":    {1, 2 * time.Minute, false, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := &lossy{Store: newStore(), begins: tt.lost}
				w, stop := begin(t, delivery.WorkerConfig{Store: store, Run: newRan(nil).run})
				d := made("e", "")
				for range tt.lost {
					if h, err := w.Begin(t.Context(), d); h != nil || !errors.Is(err, errLost) {
						t.Fatalf("begin: %v, %v", h, err)
					}
					<-time.After(tt.wait)
				}
				if tt.claimed {
					if _, err := store.ClaimDelivery(t.Context(), d.Key, "elsewhere", time.Minute); err != nil {
						t.Fatal(err)
					}
				}
				h, err := w.Begin(t.Context(), d)
				if err != nil || h != nil != tt.begun {
					t.Fatalf("begin again: %v, %v", h, err)
				}
				if h != nil {
					<-time.After(2 * time.Minute) // its lease is kept
					outcome := d.Clone()
					if err := errors.Join(succeed(t.Context(), outcome), h.Settle(outcome)); err != nil {
						t.Error(err)
					}
				}
				<-time.After(2 * time.Minute)
				if h, err := w.Begin(t.Context(), d); h != nil || err != nil {
					t.Errorf("what is done: %v, %v", h, err)
				}
				stop()
				if d := stored(t, store, d.Key); d.State != observer.Done || len(d.Attempts) != tt.attempts {
					t.Errorf("it is %s after %+v", d.State, d.Attempts)
				}
			})
		})
	}
}

// Somebody is told how it ended while the process still waits, and although the
// store's answer was lost.
func TestSettleTellsBeforeTheWorkerEnds(t *testing.T) {
	t.Parallel()
	for _, lost := range []int{0, 1} {
		synctest.Test(t, func(t *testing.T) {
			store := &lossy{Store: newStore(), updates: lost}
			ctx, cancel := context.WithCancel(t.Context())
			w := delivery.NewWorker(delivery.WorkerConfig{Store: store, Run: succeed, Owner: "w", Logger: quiet()})
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				if err := w.Run(ctx); err != nil {
					t.Error(err)
				}
			}()
			d := made("e", "")
			h, err := w.Begin(t.Context(), d)
			if err != nil {
				t.Fatal(err)
			}
			cancel()
			d.Bury(errors.New("refused"))
			told := false
			err = h.Settle(d, func() {
				<-time.After(time.Second)
				select {
				case <-ended:
					t.Error("the worker has ended before")
				default:
				}
				told = stored(t, store, d.Key).State == observer.Dead
			})
			if err != nil || !told {
				t.Errorf("%d answers lost: told %t, %v", lost, told, err)
			}
			<-ended
		})
	}
}
