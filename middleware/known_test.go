package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

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
		"store away":       {observer.Dead, errors.New("disk I/O error"), outcome{1, 1, ""}},
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
