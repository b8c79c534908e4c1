package middleware_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// Invariant 5: the lease may be lost while an attempt waits for its turn at the limit
// of its endpoint. Whoever has the lease then ends the claim and handles the event, so
// that the attempt may not begin; and its turn is there for others.
func TestInvariant5NothingIsSentByWhoLosesItsLeaseWhileItWaitsForItsTurn(t *testing.T) {
	t.Parallel()
	for name, limit := range map[string]middleware.LimitsConfig{
		"for a place": {MaxConcurrent: 1},
		"for a token": {Rate: 1, Burst: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store, tr := memorystore.New(memorystore.Config{}), limited(limit)
				var sent []string
				chain := func(who string, takes time.Duration) observer.Action {
					return observer.Chain(dedupOver(store, who, &middleware.Counters{}).Middleware(),
						middleware.Retry(middleware.RetryConfig{InlineBudget: 5 * time.Second}), tr.Breaker(false), tr.Limit(2*time.Second),
					)(observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
						<-time.After(takes)
						sent = append(sent, who)
						return observer.Result{}, nil
					}))
				}
				run := func(ctx context.Context, action observer.Action, event string) <-chan error {
					d, ended := ofTenant("", event), make(chan error, 1)
					d.Endpoint = "e"
					go func() {
						_, err := action.Execute(ctx, d)
						ended <- err
					}()
					synctest.Wait()
					return ended
				}
				first := run(t.Context(), chain("another event", time.Second), "other")
				ctx, lose := fenced(under(t.Context(), "database/shop", 7))
				old := run(ctx, chain("old", 0), "e")
				lose()
				next := run(under(t.Context(), "database/shop", 8), chain("new", 0), "e")
				if err := errors.Join(<-first, <-next); err != nil {
					t.Fatal(err)
				}
				if err := <-old; !errors.Is(err, observer.ErrFenced) {
					t.Errorf("the one that lost its lease ended with %v, want that it was fenced", err)
				}
				if !slices.Equal(sent, []string{"another event", "new"}) {
					t.Errorf("sent by %q, want nothing of the one that lost its lease", sent)
				}
				if n := tr.Allowance("e"); limit.MaxConcurrent > 0 && n != 1 {
					t.Errorf("%d places are free in the end, want the only one", n)
				}
			})
		})
	}
}

// A turn among all processes that nothing was sent in is given back as unused, and so
// is the one in this process.
func TestInvariant5ATurnOfWhoLosesItsLeaseIsGivenBackUnused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{answers: []answer{{wait: 100 * time.Millisecond}}}
		tr, r := sharedTraffic(middleware.LimitsConfig{MaxConcurrent: 1, Rate: 0.001, Burst: 1}, c), newBusy(0)
		run := tr.Breaker(false)(tr.Limit(time.Second)(r))
		ctx, lose := fenced(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := run.Execute(ctx, toEndpoint("e"))
			ended <- err
		}()
		synctest.Wait()
		lose()
		err := <-ended
		if _, untried := observer.NotTriedUntil(err); !untried || !errors.Is(err, observer.ErrFenced) {
			t.Errorf("ended with %v, want that it was fenced, and not tried", err)
		}
		if len(r.came) != 0 || !slices.Equal(c.ended, []bool{false}) || tr.Allowance("e") != 1 {
			t.Errorf("%d were sent, the shared turns were used: %v, room for %d", len(r.came), c.ended, tr.Allowance("e"))
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
