package middleware_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/memory"
)

// firstPass is one that takes its time and ends with errors in turn.
type firstPass struct {
	takes  time.Duration
	errors []error

	mu      sync.Mutex
	running int
	most    int
	keys    []string
}

func (p *firstPass) Execute(_ context.Context, d *observer.Delivery) (observer.Result, error) {
	p.mu.Lock()
	p.keys = append(p.keys, d.Key)
	p.running++
	p.most = max(p.most, p.running)
	var err error
	if n := len(p.keys); n <= len(p.errors) {
		err = p.errors[n-1]
	}
	p.mu.Unlock()
	<-time.After(p.takes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running--
	return observer.Result{}, err
}

func dedupOver(store observer.DedupStore, owner string, counters *middleware.Counters) middleware.Dedup {
	return middleware.Dedup{Store: store, Owner: owner, Lease: 30 * time.Second, Keep: 5 * time.Minute, Counters: counters, Logger: quiet()}
}

func ofTenant(tenant, id string) *observer.Delivery {
	return observer.NewDelivery(&observer.Event{ID: id, TenantID: tenant}, "notify", 0, "webhook")
}

// handOver has n processes handle the delivery at once.
func handOver(t *testing.T, p *firstPass, n int, ms ...middleware.Dedup) {
	t.Helper()
	var handling sync.WaitGroup
	for i := range n {
		run := ms[i%len(ms)].Middleware()(p)
		handling.Go(func() {
			if _, err := run.Execute(t.Context(), ofTenant("", "e")); err != nil {
				t.Error(err)
			}
		})
	}
	handling.Wait()
}

func TestHandledOnceHoweverOftenItComes(t *testing.T) {
	t.Parallel()
	for name, takes := range map[string]time.Duration{"at once": 0, "within the lease": time.Second, "beyond the lease": 5 * time.Minute} {
		synctest.Test(t, func(t *testing.T) {
			store, counters, p := memory.New(memory.Config{}), &middleware.Counters{}, &firstPass{takes: takes}
			a, b := dedupOver(store, "a", counters), dedupOver(store, "b", counters)
			handOver(t, p, 10, a, b)
			<-time.After(4 * time.Minute) // from the end on
			handOver(t, p, 10, a, b)
			if len(p.keys) != 1 {
				t.Errorf("%s: handled %d times", name, len(p.keys))
			}
			if d := cmp.Diff(middleware.Counts{DedupDetected: 19, DedupSkipped: 19}, counters.Read()); d != "" {
				t.Errorf("%s: %s", name, d)
			}
			if _, err := store.PruneDedup(t.Context(), 10); err != nil {
				t.Fatal(err)
			}
			<-time.After(2 * time.Minute)
			if n, err := store.PruneDedup(t.Context(), 10); n != 1 || err != nil {
				t.Errorf("%s: %d forgotten in time, %v", name, n, err)
			}
		})
	}
}

func TestInvariant6WhatFailedIsNotRememberedAsDone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		failed := errors.New("the store is away")
		p := &firstPass{errors: []error{failed}}
		run := dedupOver(memory.New(memory.Config{}), "a", &middleware.Counters{}).Middleware()(p)
		began := time.Now()
		if _, err := run.Execute(t.Context(), ofTenant("", "e")); !errors.Is(err, failed) {
			t.Errorf("error %v", err)
		}
		for range 2 {
			if _, err := run.Execute(t.Context(), ofTenant("", "e")); err != nil {
				t.Error(err)
			}
		}
		if len(p.keys) != 2 || time.Since(began) > 0 {
			t.Errorf("handled %d times within %s, want again at once, and once", len(p.keys), time.Since(began))
		}
	})
}

func TestInvariant6OnlyWhatFailedRunsAgain(t *testing.T) {
	t.Parallel()
	run := dedupOver(memory.New(memory.Config{}), "a", &middleware.Counters{}).Middleware()
	p := &firstPass{errors: []error{nil, errors.New("failed")}}
	e := &observer.Event{ID: "e"}
	for range 2 { // of an event that is handed over again
		for action := range 3 {
			_, _ = run(p).Execute(t.Context(), observer.NewDelivery(e, "notify", action, "webhook"))
		}
	}
	if d := cmp.Diff([]string{"e/notify/0", "e/notify/1", "e/notify/2", "e/notify/1"}, p.keys); d != "" {
		t.Errorf("handled (-want +got):\n%s", d)
	}
}

// A process that died delays what it had claimed, and loses nothing.
func TestACrashDelaysAndLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, p, began := memory.New(memory.Config{}), &firstPass{}, time.Now()
		if _, err := store.ClaimDedup(t.Context(), observer.DedupClaim{Key: "0:/e/notify/0", Owner: "dead"}, 30*time.Second); err != nil {
			t.Fatal(err)
		}
		handOver(t, p, 1, dedupOver(store, "a", &middleware.Counters{}))
		if took := time.Since(began); len(p.keys) != 1 || took < 30*time.Second || took > 31*time.Second {
			t.Errorf("handled %d times after %s", len(p.keys), took)
		}
	})
}

func TestTenantsNeverShareKeys(t *testing.T) {
	t.Parallel()
	run := dedupOver(memory.New(memory.Config{}), "a", &middleware.Counters{}).Middleware()
	p := &firstPass{}
	long := strings.Repeat("x", 2000)
	for _, d := range []*observer.Delivery{
		ofTenant("", "e"), ofTenant("a", "e"), ofTenant("b", "e"), ofTenant("a/b", "e"), ofTenant("a", "b/e"), ofTenant("", "1:a/e"),
		ofTenant("a", long), ofTenant("b", long), {Key: "e/notify/1"},
	} {
		for range 2 {
			if _, err := run(p).Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(p.keys) != 9 {
		t.Errorf("%d of 9 deliveries were handled, want each once", len(p.keys))
	}
}

// away is a store that fails until a time.
type away struct {
	*memory.Store
	until time.Time
}

var errStoreAway = errors.New("no connection")

func (a away) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (observer.DedupAnswer, error) {
	if time.Now().Before(a.until) {
		return observer.DedupAnswer{}, errStoreAway
	}
	return a.Store.ClaimDedup(ctx, c, lease)
}

func (a away) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	if time.Now().Before(a.until) {
		return errStoreAway
	}
	return a.Store.FinishDedup(ctx, marks...)
}

func TestWithoutAStoreDeliveriesWaitUnlessOpen(t *testing.T) {
	t.Parallel()
	for _, open := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			began, counters, p := time.Now(), &middleware.Counters{}, &firstPass{}
			m := dedupOver(away{memory.New(memory.Config{}), began.Add(time.Minute)}, "a", counters)
			m.Open = open
			handOver(t, p, 1, m)
			if took := time.Since(began); open != (took == 0) || took > 66*time.Second || len(p.keys) != 1 {
				t.Errorf("open %v: handled %d times after %s", open, len(p.keys), took)
			}
			if n := counters.Read().DedupOpen; open != (n == 1) {
				t.Errorf("open %v: %d without a claim", open, n)
			}
		})
	}
}

// A process that stops waits for nobody, and its event is not handled.
func TestWaitingForAnotherHandlingEndsWithTheProcess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, p := memory.New(memory.Config{}), &firstPass{}
		if _, err := store.ClaimDedup(t.Context(), observer.DedupClaim{Key: "0:/e/notify/0", Owner: "other"}, time.Hour); err != nil {
			t.Fatal(err)
		}
		drain := make(chan struct{})
		time.AfterFunc(time.Second, func() { close(drain) })
		run := dedupOver(store, "a", &middleware.Counters{}).Middleware()(p)
		_, err := run.Execute(observer.WithDrain(t.Context(), drain), ofTenant("", "e"))
		if !errors.Is(err, observer.ErrBusy) || len(p.keys) != 0 {
			t.Errorf("error %v after %d handlings", err, len(p.keys))
		}
	})
}

// What was handled while the store is away is remembered when it is back.
func TestWhatWasHandledIsRememberedLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, p, began := memory.New(memory.Config{}), &firstPass{takes: time.Second}, time.Now()
		late := &lateAway{Store: store, from: began.Add(time.Millisecond), until: began.Add(time.Minute)}
		handOver(t, p, 1, dedupOver(late, "a", &middleware.Counters{}))
		handOver(t, p, 1, dedupOver(store, "b", &middleware.Counters{}))
		if len(p.keys) != 1 {
			t.Errorf("handled %d times", len(p.keys))
		}
	})
}

// lateAway fails to finish for a while.
type lateAway struct {
	*memory.Store
	from, until time.Time
}

func (a *lateAway) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	if now := time.Now(); now.After(a.from) && now.Before(a.until) {
		return errStoreAway
	}
	return a.Store.FinishDedup(ctx, marks...)
}
