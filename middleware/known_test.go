package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/memory"
)

func TestKnown(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Asked, Ran int
		State      observer.State
	}
	tests := map[string]struct {
		before observer.State // what the store held at the start
		err    error          // what it answers when asked
		want   outcome
	}{
		"scheduled before": {observer.Scheduled, nil, outcome{1, 0, observer.Scheduled}},
		"dead before":      {observer.Dead, nil, outcome{1, 0, observer.Dead}},
		"gone since":       {observer.Dead, observer.ErrNotFound, outcome{1, 1, ""}},
		"never there":      {"", nil, outcome{0, 1, ""}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := holding(t, tt.before, "e1/notify/0", "e2/notify/0", "e0/notify/0")
			stored, err := middleware.ReadStored(t.Context(), store)
			if err != nil {
				t.Fatal(err)
			}
			var got outcome
			known := middleware.Known{Stored: stored, Logger: quiet(), Find: func(ctx context.Context, key string) (*observer.Delivery, error) {
				got.Asked++
				if tt.err != nil {
					return nil, tt.err
				}
				return store.Delivery(ctx, key)
			}}
			d, act := newDelivery(), &script{answers: []error{nil}}
			if _, err := known.Middleware()(act).Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			got.Ran, got.State = act.calls, d.State
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// A store that is away does not answer that the delivery is new: nothing is sent
// beside what is stored, however long it takes, and then only what is not.
func TestInvariant7StoreThatIsAwayIsWaitedFor(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		after error // what the store says when it is back
		calls int
	}{"stored": {nil, 0}, "gone since": {observer.ErrNotFound, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, began := holding(t, observer.Scheduled, "e1/notify/0"), time.Now()
				stored, err := middleware.ReadStored(t.Context(), store)
				if err != nil {
					t.Fatal(err)
				}
				known := middleware.Known{Stored: stored, Logger: quiet(), Find: func(ctx context.Context, key string) (*observer.Delivery, error) {
					switch {
					case time.Since(began) < time.Hour:
						return nil, errors.New("connection refused")
					case tt.after != nil:
						return nil, tt.after
					}
					return store.Delivery(ctx, key)
				}}
				act := &script{answers: []error{nil}}
				if _, err := known.Middleware()(act).Execute(t.Context(), newDelivery()); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(began); act.calls != tt.calls || took < time.Hour || took > time.Hour+5*time.Second {
					t.Errorf("%d calls after %s, want %d once the store is back", act.calls, took, tt.calls)
				}
			})
		})
	}
}

// The end of the process ends the waiting. The event is not handled then, and is
// read again after the restart.
func TestKnownWaitsUntilTheProcessEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		stored, err := middleware.ReadStored(t.Context(), holding(t, observer.Scheduled, "e1/notify/0"))
		if err != nil {
			t.Fatal(err)
		}
		away := errors.New("connection refused")
		known := middleware.Known{Stored: stored, Logger: quiet(), Find: func(context.Context, string) (*observer.Delivery, error) { return nil, away }}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		act, began := &script{answers: []error{nil}}, time.Now()
		_, err = known.Middleware()(act).Execute(ctx, newDelivery())
		if !errors.Is(err, away) || act.calls != 0 || time.Since(began) != time.Minute {
			t.Errorf("%v with %d calls after %s", err, act.calls, time.Since(began))
		}
	})
}

func TestReadStoredFails(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := middleware.ReadStored(ctx, memory.New(memory.Config{})); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the error of the store", err)
	}
}

// BenchmarkKnown is what a delivery pays that is not among a million stored
// ones.
func BenchmarkKnown(b *testing.B) {
	store := memory.New(memory.Config{MaxDead: 2_000_000})
	for i := range 1_000_000 {
		d := newDelivery()
		d.Key, d.State = fmt.Sprintf("e%d/notify/0", i+10), observer.Dead
		if err := insert(store)(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
	stored, err := middleware.ReadStored(b.Context(), store)
	if err != nil {
		b.Fatal(err)
	}
	known := middleware.Known{Stored: stored, Find: store.Delivery, Logger: quiet()}
	act := known.Middleware()(observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
		return observer.Result{}, nil
	}))
	d := newDelivery()
	for b.Loop() {
		if _, err := act.Execute(b.Context(), d); err != nil {
			b.Fatal(err)
		}
	}
}

// holding makes a store with deliveries of these keys in state; none when state
// is empty.
func holding(t *testing.T, state observer.State, keys ...string) *memory.Store {
	t.Helper()
	store := memory.New(memory.Config{})
	for _, key := range keys {
		if state == "" {
			break
		}
		d := newDelivery()
		d.Key, d.State = key, state
		if err := insert(store)(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	return store
}
