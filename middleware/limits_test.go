package middleware_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
)

// busy notes when calls come, and how many are there at once.
type busy struct {
	takes time.Duration

	mu        sync.Mutex
	began     time.Time
	came      []time.Duration
	now, most int
}

func newBusy(takes time.Duration) *busy { return &busy{takes: takes, began: time.Now()} }

func (r *busy) Execute(context.Context, *observer.Delivery) (observer.Result, error) {
	r.mu.Lock()
	r.came = append(r.came, time.Since(r.began))
	r.now++
	r.most = max(r.most, r.now)
	r.mu.Unlock()
	<-time.After(r.takes)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now--
	return observer.Result{}, nil
}

// lanes runs n calls at the same time that each wait for up to patience, and
// gives their errors.
func lanes(t *testing.T, tr *middleware.Traffic, r *busy, n int, patience time.Duration) []error {
	t.Helper()
	errs := make([]error, n)
	var all sync.WaitGroup
	run := tr.Breaker(false)(tr.Limit(patience)(r))
	for i := range n {
		all.Go(func() { _, errs[i] = run.Execute(t.Context(), toEndpoint("e")) })
		synctest.Wait() // they come one after the other
	}
	all.Wait()
	return errs
}

func limited(l middleware.LimitsConfig) *middleware.Traffic {
	return traffic(middleware.Rules{Limits: l})
}

func refused(errs []error) (n int) {
	for _, err := range errs {
		if _, untried := observer.NotTriedUntil(err); untried && errors.Is(err, middleware.ErrLimited) {
			n++
		}
	}
	return n
}

func TestRateIsKeptInLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, r := limited(middleware.LimitsConfig{Rate: 10, Burst: 3}), newBusy(0)
		errs := lanes(t, tr, r, 8, 250*time.Millisecond)
		want := []time.Duration{0, 0, 0, 100 * time.Millisecond, 200 * time.Millisecond}
		if d := cmp.Diff(want, r.came); d != "" || refused(errs) != 3 {
			t.Errorf("came at %s%d refused", d, refused(errs))
		}
		tr.Look()(false) // nothing is stored
		<-time.After(time.Second)
		r.came = nil
		if lanes(t, tr, r, 4, 0); len(r.came) != 3 {
			t.Errorf("%d at once after a pause, want the burst", len(r.came))
		}
	})
}

func TestConcurrencyIsKeptInLanes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, r := limited(middleware.LimitsConfig{MaxConcurrent: 2}), newBusy(100*time.Millisecond)
		errs := lanes(t, tr, r, 8, 250*time.Millisecond)
		const ms = time.Millisecond
		want := []time.Duration{0, 0, 100 * ms, 100 * ms, 200 * ms, 200 * ms}
		if d := cmp.Diff(want, r.came); d != "" || refused(errs) != 2 || r.most != 2 {
			t.Errorf("came at %s%d refused, %d at once", d, refused(errs), r.most)
		}
	})
}

// First come, first served: the order in which lanes wait is that in which they
// are sent.
func TestLanesTakeTurns(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := limited(middleware.LimitsConfig{MaxConcurrent: 1})
		var order []string
		run := tr.Breaker(false)(tr.Limit(time.Second)(observer.ActionFunc(func(_ context.Context, d *observer.Delivery) (observer.Result, error) {
			order = append(order, d.Key)
			<-time.After(50 * time.Millisecond)
			return observer.Result{}, nil
		})))
		var all sync.WaitGroup
		var want []string
		for _, key := range []string{"a", "b", "c", "d", "e"} {
			want = append(want, key)
			d := toEndpoint("e")
			d.Key = key
			all.Go(func() { _, _ = run.Execute(t.Context(), d) })
			synctest.Wait()
		}
		all.Wait()
		if d := cmp.Diff(want, order); d != "" {
			t.Error(d)
		}
	})
}

// What is asked to stop does not wait, and gives back what it had reserved.
func TestWaitingForATurnEndsWhenTheProcessStops(t *testing.T) {
	t.Parallel()
	for name, l := range map[string]middleware.LimitsConfig{"rate": {Rate: 1, Burst: 1}, "concurrency": {MaxConcurrent: 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr, r := limited(l), newBusy(time.Minute)
				run := tr.Breaker(false)(tr.Limit(10 * time.Second)(r))
				go func() { _, _ = run.Execute(t.Context(), toEndpoint("e")) }()
				synctest.Wait()
				began := time.Now()
				_, err := run.Execute(draining(t, 100*time.Millisecond, time.Hour), toEndpoint("e"))
				if refused([]error{err}) != 1 || time.Since(began) != 100*time.Millisecond {
					t.Errorf("%v after %s", err, time.Since(began))
				}
				tr.Look()(false)
				<-time.After(time.Minute)
				if n := tr.Allowance("e"); n != 1 {
					t.Errorf("room for %d afterwards", n)
				}
			})
		})
	}
}

// While there is a backlog in the store, lanes send nothing and the workers get
// every turn; when it is gone, lanes send again.
func TestBacklogGoesFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, r := limited(middleware.LimitsConfig{MaxConcurrent: 1}), newBusy(time.Second)
		go func() { _, _ = tr.Breaker(false)(tr.Limit(0)(r)).Execute(t.Context(), toEndpoint("e")) }()
		synctest.Wait()
		if _, ready := tr.InLane("e"); ready {
			t.Error("a lane may try at once where there is no place")
		}
		looked := tr.Look()
		if n := tr.Allowance("e"); n != 0 {
			t.Errorf("room for %d", n)
		}
		looked(false)
		woken := 0
		tr.OnChange(func() { woken++ })
		<-time.After(1100 * time.Millisecond)
		if _, ready := tr.InLane("e"); ready || woken != 1 {
			t.Errorf("ready in a lane: %t, although a worker was refused; it was woken %d times", ready, woken)
		}
		looked = tr.Look()
		if n := tr.Allowance("e"); n != 1 {
			t.Errorf("room for %d", n)
		}
		_, leave, ok := tr.Admit(t.Context(), "e")
		looked(false)
		if _, ready := tr.InLane("e"); ready || !ok {
			t.Errorf("ready in a lane: %t, although a worker took the last place: %t", ready, ok)
		}
		leave()
		tr.Look()(true)
		if _, ready := tr.InLane("e"); ready {
			t.Error("ready in a lane, although the worker has not seen everything")
		}
		tr.Look()(false)
		if _, ready := tr.InLane("e"); !ready {
			t.Error("a worker found nothing more, and lanes still wait")
		}
	})
}

// A worker's attempt takes its turn when it is claimed and not once more in the
// chain; one that is not made gives it back.
func TestAdmissionIsOneTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr, r := limited(middleware.LimitsConfig{MaxConcurrent: 5, Rate: 1, Burst: 5}), newBusy(0)
		run := tr.Breaker(false)(tr.Limit(0)(r))
		for range 2 {
			ctx, leave, ok := tr.Admit(t.Context(), "e")
			if _, err := run.Execute(ctx, toEndpoint("e")); err != nil || !ok {
				t.Fatalf("%v, %t", err, ok)
			}
			leave()
		}
		if n := tr.Allowance("e"); n != 3 {
			t.Errorf("room for %d after two attempts of five", n)
		}
		_, leave, _ := tr.Admit(t.Context(), "e")
		if n := tr.Allowance("e"); n != 2 {
			t.Errorf("room for %d while a third is claimed", n)
		}
		leave()
		if n := tr.Allowance("e"); n != 3 {
			t.Errorf("room for %d after that was not made", n)
		}
		ctx, leave, _ := tr.Admit(t.Context(), "moved")
		if _, err := run.Execute(ctx, toEndpoint("e")); err != nil {
			t.Error(err)
		}
		leave()
		if n, m := tr.Allowance("e"), tr.Allowance("moved"); n != 2 || m != 5 {
			t.Errorf("room for %d and %d after one that has another receiver now", n, m)
		}
	})
}

// By a clock that does not stand still: what a worker has claimed needs no
// patience where there is no rate.
func TestAdmittedAttemptsHaveNoTokenToWaitFor(t *testing.T) {
	t.Parallel()
	tr := limited(middleware.LimitsConfig{MaxConcurrent: 1})
	run := tr.Breaker(false)(tr.Limit(0)(newBusy(0)))
	for range 100 {
		ctx, leave, ok := tr.Admit(t.Context(), "e")
		if _, err := run.Execute(ctx, toEndpoint("e")); err != nil || !ok {
			t.Fatalf("admitted: %t, error %v", ok, err)
		}
		leave()
	}
}
