package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// fenced gives a context and what takes its lease away.
func fenced(ctx context.Context) (_ context.Context, lose func()) {
	var lost atomic.Bool
	return observer.WithFence(ctx, func(context.Context) error {
		if lost.Load() {
			return fmt.Errorf("paused for a minute: %w", observer.ErrFenced)
		}
		return nil
	}), func() { lost.Store(true) }
}

// Invariant 5: between two attempts the lease may go to somebody else, who
// handles the event again. Neither another attempt nor a stored delivery may come
// of the first one.
func TestInvariant5FencedFirstPassSendsAndStoresNothingMore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := memorystore.New(memorystore.Config{})
		pass := newPass(t, store)
		act := &receiver{answer: errTransient}
		pass.Preparer = act
		chain := observer.Chain(pass.Middleware(), middleware.DeadLetter{}.Middleware(), middleware.Defer(), middleware.Retry(middleware.RetryConfig{
			MaxAttempts: 5, Backoff: backoff.Policy{Kind: backoff.Fixed, Initial: 100 * time.Millisecond}, InlineBudget: 2 * time.Second,
		}))(act)
		ctx, lose := fenced(t.Context())
		d, ended := newDelivery(), make(chan error, 1)
		go func() {
			_, err := chain.Execute(ctx, d)
			ended <- err
		}()
		synctest.Wait()
		lose()
		if err := <-ended; !errors.Is(err, observer.ErrFenced) {
			t.Errorf("ended with %v, want that it was fenced", err)
		}
		if act.attempts() != 1 {
			t.Errorf("%d attempts, want the one before the lease was lost", act.attempts())
		}
		if s := stateOf(t, store, d); s != "" {
			t.Errorf("stored as %s", s)
		}
	})
}

// What another process stored is known after the refresh, and those who ask for
// one at once share it.
func TestRefreshKnowsWhatOthersStored(t *testing.T) {
	t.Parallel()
	store := memorystore.New(memorystore.Config{})
	stored, err := middleware.ReadStored(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	act := &script{answers: []error{nil, nil}}
	known := middleware.Known{Stored: stored, Find: store.Delivery, Logger: quiet()}.Middleware()(act)
	other := newDelivery()
	other.Enqueue(time.Now())
	if err := insert(store)(t.Context(), other); err != nil {
		t.Fatal(err)
	}
	if err := stored.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := known.Execute(t.Context(), newDelivery()); err != nil {
		t.Fatal(err)
	}
	if act.calls != 0 {
		t.Error("what another process had stored was run beside it")
	}
}

// slowKeys takes a second to list its keys.
type slowKeys struct {
	*memorystore.Store

	listed int
}

func (s *slowKeys) DeliveryKeys(ctx context.Context, each func(key, lane string)) error {
	s.listed++
	<-time.After(time.Second)
	return s.Store.DeliveryKeys(ctx, each)
}

func TestRefreshesAreShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slowKeys{Store: memorystore.New(memorystore.Config{})}
		stored, err := middleware.ReadStored(t.Context(), store)
		if err != nil {
			t.Fatal(err)
		}
		began, ended := time.Now(), make(chan error)
		for range 32 {
			go func() { ended <- stored.Refresh(t.Context()) }()
		}
		for range 32 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		// Those that came first may not share what began before them.
		if took := time.Since(began); store.listed > 3 || took > 2*time.Second {
			t.Errorf("the store was listed %d times in %s, want one or two readings for all", store.listed-1, took)
		}
	})
}
