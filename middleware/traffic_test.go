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
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
)

// breaking opens after half of at least four calls in ten seconds have failed,
// for a minute, and then wants two of three probes to succeed.
func breaking() middleware.BreakerConfig {
	return middleware.BreakerConfig{
		Enabled: true, FailureRate: 50, MinCalls: 4, Window: 10 * time.Second, OpenFor: time.Minute, Probes: 3,
	}
}

// traffic has the same rules for every endpoint.
func traffic(rules middleware.Rules, closed ...*[]string) *middleware.Traffic {
	return middleware.NewTraffic(middleware.TrafficConfig{
		Rules: func(string) middleware.Rules { return rules }, Logger: quiet(),
		Closed: func(endpoint string) {
			for _, c := range closed {
				*c = append(*c, endpoint)
			}
		},
	})
}

func toEndpoint(endpoint string) *observer.Delivery {
	d := newDelivery()
	d.Endpoint = endpoint
	return d
}

// call makes one attempt at endpoint that ends with err.
func call(t *testing.T, tr *middleware.Traffic, endpoint string, err error) error {
	t.Helper()
	act := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) { return observer.Result{}, err })
	_, got := tr.Breaker(false)(tr.Limit(0)(act)).Execute(t.Context(), toEndpoint(endpoint))
	return got
}

func calls(t *testing.T, tr *middleware.Traffic, errs ...error) {
	t.Helper()
	for i, err := range errs {
		if got := call(t, tr, "e", err); !errors.Is(got, err) {
			t.Fatalf("call %d: %v, want %v", i, got, err)
		}
	}
}

// state is that of the breaker of e.
func state(tr *middleware.Traffic) middleware.BreakerState {
	for _, g := range tr.Guarded() {
		if g.Endpoint == "e" {
			return g.State
		}
	}
	return ""
}

func wantState(t *testing.T, tr *middleware.Traffic, want middleware.BreakerState) {
	t.Helper()
	if got := state(tr); got != want {
		t.Errorf("the breaker is %q, want %q", got, want)
	}
}

func TestBreakerOpensByTheRateInItsWindow(t *testing.T) {
	t.Parallel()
	const wait = time.Second
	type step struct {
		err  error
		wait time.Duration
	}
	ok, bad := step{nil, wait}, step{errTransient, wait}
	tests := map[string]struct {
		steps []step
		want  middleware.BreakerState
	}{
		"too few calls":             {[]step{bad, bad, bad}, middleware.BreakerClosed},
		"all of them":               {[]step{bad, bad, bad, bad}, middleware.BreakerOpen},
		"half":                      {[]step{ok, bad, ok, bad}, middleware.BreakerOpen},
		"less than half":            {[]step{ok, ok, ok, bad, bad}, middleware.BreakerClosed},
		"old failures are gone":     {[]step{bad, bad, {errTransient, 11 * time.Second}, bad}, middleware.BreakerClosed},
		"old successes are gone":    {[]step{ok, ok, ok, {nil, 11 * time.Second}, bad, bad, bad, bad}, middleware.BreakerOpen},
		"another endpoint is apart": {[]step{bad, bad, bad}, middleware.BreakerClosed},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tr := traffic(middleware.Rules{Breaker: breaking()})
				for _, s := range tt.steps {
					calls(t, tr, s.err)
					_ = call(t, tr, "other", nil)
					<-time.After(s.wait)
				}
				wantState(t, tr, tt.want)
			})
		})
	}
}

func TestBreakerCountsWhatIsTheReceiversFault(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		err      error
		failures int
		calls    int
	}{
		"success":            {nil, 0, 1},
		"transient":          {errTransient, 1, 1},
		"not answered":       {observer.OutcomeUnknown(errTransient), 1, 1},
		"timeout":            {fmt.Errorf("no answer within 1s: %w", context.DeadlineExceeded), 1, 1},
		"asked to wait":      {observer.RetryAfter(errTransient, time.Second), 1, 1},
		"refused for good":   {observer.Permanent(observer.ReasonPermanent, errTransient), 0, 1},
		"gone":               {observer.Permanent(observer.ReasonGone, errTransient), 0, 1},
		"template":           {observer.Permanent(observer.ReasonTemplate, errTransient), 0, 0},
		"too large":          {observer.Permanent(observer.ReasonTooLarge, errTransient), 0, 0},
		"shutdown":           {fmt.Errorf("post: %w", context.Canceled), 0, 0},
		"not tried":          {observer.NotTried(errTransient, time.Time{}), 0, 0},
		"unknown and is not": {observer.Permanent(observer.ReasonOutcomeUnknown, errTransient), 1, 1},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tr := traffic(middleware.Rules{Breaker: breaking()})
			calls(t, tr, tt.err)
			got := tr.Guarded()[0]
			if got.Calls != tt.calls || got.Failures != tt.failures {
				t.Errorf("%d calls, %d failures; want %d, %d", got.Calls, got.Failures, tt.calls, tt.failures)
			}
		})
	}
}

func TestOpenBreakerIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking()})
		calls(t, tr, errTransient, errTransient, errTransient, errTransient)
		opened := time.Now()
		<-time.After(20 * time.Second)
		err := call(t, tr, "e", nil)
		until, untried := observer.NotTriedUntil(err)
		if !untried || !errors.Is(err, middleware.ErrOpen) || !until.Equal(opened.Add(time.Minute)) {
			t.Errorf("%v until %s", err, until)
		}
		if wait, ready := tr.InLane("e"); ready || wait != 40*time.Second {
			t.Errorf("ready in a lane: %t, after %s", ready, wait)
		}
		if n := tr.Allowance("e"); n != 0 {
			t.Errorf("a worker may begin %d", n)
		}
		if at := tr.Opens(); !at.Equal(opened.Add(time.Minute)) {
			t.Errorf("opens at %s", at)
		}
		asked := toEndpoint("e")
		asked.ClaimedFrom = observer.Dead
		if _, err := tr.Breaker(false)(&script{answers: []error{nil}}).Execute(t.Context(), asked); err != nil {
			t.Errorf("what a person asked for: %v", err)
		}
		g := tr.Guarded()[0]
		if g.State != middleware.BreakerOpen || g.Calls != 4 || g.Failures != 4 || !g.Until.Equal(opened.Add(time.Minute)) {
			t.Errorf("shown as %+v", g)
		}
	})
}

// The library half-opens with the first call after its delay; what is shown does
// not wait for one.
func TestBreakerIsShownHalfOpenBeforeAnybodyCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking()})
		calls(t, tr, errTransient, errTransient, errTransient, errTransient)
		<-time.After(time.Minute - time.Nanosecond)
		wantState(t, tr, middleware.BreakerOpen)
		<-time.After(time.Nanosecond)
		g := tr.Guarded()[0]
		if g.State != middleware.BreakerHalfOpen || g.Calls != 0 || g.Probing != 0 || !g.Until.IsZero() {
			t.Errorf("shown as %+v", g)
		}
		if _, ready := tr.InLane("e"); ready {
			t.Error("a lane may probe")
		}
		if n := tr.Allowance("e"); n != 3 {
			t.Errorf("a worker may begin %d, want the probes", n)
		}
	})
}

func TestHalfOpenBreaker(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		probes []error
		want   middleware.BreakerState
		closed []string
	}{
		"two of three":       {[]error{nil, errTransient, nil}, middleware.BreakerClosed, []string{"e"}},
		"two at once":        {[]error{nil, nil}, middleware.BreakerClosed, []string{"e"}},
		"two failures":       {[]error{errTransient, nil, errTransient}, middleware.BreakerOpen, nil},
		"a refusal is alive": {[]error{observer.Permanent(observer.ReasonPermanent, errTransient), nil}, middleware.BreakerClosed, []string{"e"}},
		"undecided":          {[]error{errTransient, nil}, middleware.BreakerHalfOpen, nil},
		"what says nothing takes no probe": {[]error{
			context.Canceled, context.Canceled, context.Canceled, context.Canceled, nil, nil,
		}, middleware.BreakerClosed, []string{"e"}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var closed []string
				tr := traffic(middleware.Rules{Breaker: breaking()}, &closed)
				calls(t, tr, errTransient, errTransient, errTransient, errTransient)
				<-time.After(time.Minute)
				calls(t, tr, tt.probes...)
				wantState(t, tr, tt.want)
				if d := cmp.Diff(tt.closed, closed); d != "" {
					t.Errorf("told of recoveries: %s", d)
				}
			})
		})
	}
}

// No more than three probes are made: one that was not used lets another begin,
// one that failed does not.
func TestProbesAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking()})
		calls(t, tr, errTransient, errTransient, errTransient, errTransient)
		<-time.After(time.Minute)
		woken := 0
		tr.OnChange(func() { woken++ })
		var leaves []func()
		for range 3 {
			_, leave, ok := tr.Admit(t.Context(), "e")
			if !ok {
				t.Fatal("a probe was refused")
			}
			leaves = append(leaves, leave)
		}
		if _, _, ok := tr.Admit(t.Context(), "e"); ok || tr.Allowance("e") != 0 {
			t.Error("a fourth probe was admitted")
		}
		err := call(t, tr, "e", nil)
		if until, untried := observer.NotTriedUntil(err); !untried || !until.After(time.Now()) {
			t.Errorf("a fourth probe: %v", err)
		}
		leaves[0]() // it was not used
		if woken != 1 || tr.Allowance("e") != 1 {
			t.Errorf("after one ended: woken %d times, room for %d", woken, tr.Allowance("e"))
		}
		calls(t, tr, errTransient)
		if tr.Allowance("e") != 0 {
			t.Error("after one failed while two are under way, there is room for a fourth")
		}
	})
}

// A call that began before the breaker opened says nothing about the time since.
func TestLateResultsDoNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking()})
		end := make(chan struct{})
		slow := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
			<-end
			return observer.Result{}, errTransient
		})
		for range 5 {
			go func() { _, _ = tr.Breaker(false)(slow).Execute(t.Context(), toEndpoint("e")) }()
		}
		synctest.Wait()
		calls(t, tr, errTransient, errTransient, errTransient, errTransient)
		<-time.After(time.Minute)
		calls(t, tr, nil)
		close(end)
		synctest.Wait()
		wantState(t, tr, middleware.BreakerHalfOpen)
		calls(t, tr, nil)
		wantState(t, tr, middleware.BreakerClosed)
	})
}

// An endpoint that was resumed begins anew, in whatever state its breaker was. What
// began before that says nothing.
func TestResumedEndpoint(t *testing.T) {
	t.Parallel()
	for name, wait := range map[string]time.Duration{"open": 0, "half-open": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				var closed []string
				tr := traffic(middleware.Rules{Breaker: breaking()}, &closed)
				tr.Resumed("e") // of which nothing is known
				calls(t, tr, errTransient, errTransient, errTransient, errTransient)
				<-time.After(wait)
				end := make(chan struct{})
				go func() {
					_, _ = tr.Breaker(false)(observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
						<-end
						return observer.Result{}, errTransient
					})).Execute(t.Context(), toEndpoint("e"))
				}()
				synctest.Wait()
				tr.Resumed("e")
				wantState(t, tr, middleware.BreakerClosed)
				close(end)
				synctest.Wait()
				calls(t, tr, errTransient, errTransient, errTransient)
				tr.Resumed("e") // a closed one goes on
				calls(t, tr, errTransient)
				wantState(t, tr, middleware.BreakerOpen)
				if len(closed) > 0 {
					t.Errorf("told that %v recovered", closed)
				}
			})
		})
	}
}

// A receiver that takes longer than the window to fail is not forgotten meanwhile.
func TestLongAttemptsAreNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking()})
		hang := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
			<-time.After(time.Minute)
			return observer.Result{}, errTransient
		})
		for range 4 {
			go func() { _, _ = tr.Breaker(false)(hang).Execute(t.Context(), toEndpoint("e")) }()
		}
		<-time.After(30 * time.Second)
		_ = call(t, tr, "other", nil)
		<-time.After(31 * time.Second)
		wantState(t, tr, middleware.BreakerOpen)
	})
}

// Thousands of endpoints come and go; those of which there is nothing to know
// cost nothing.
func TestIdleEndpointsAreForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		tr := traffic(middleware.Rules{Breaker: breaking(), Limits: middleware.LimitsConfig{MaxConcurrent: 2, Rate: 10}})
		for i := range 1000 {
			if err := call(t, tr, fmt.Sprint("gone ", i), nil); err != nil {
				t.Fatal(err)
			}
		}
		calls(t, tr, errTransient)
		for range 3 {
			<-time.After(time.Second)
			calls(t, tr, errTransient)
		}
		if n := len(tr.Guarded()); n != 1001 {
			t.Fatalf("%d known", n)
		}
		<-time.After(30 * time.Second)
		if list := tr.Guarded(); len(list) != 1 || list[0].State != middleware.BreakerOpen {
			t.Errorf("%d known, want the open one: %+v", len(list), list[:min(len(list), 3)])
		}
		<-time.After(10 * time.Minute)
		if n := len(tr.Guarded()); n != 0 {
			t.Errorf("%d known long after the last call", n)
		}
	})
}

func TestNotTriedIsNoAttempt(t *testing.T) {
	t.Parallel()
	lane := middleware.RetryConfig{MaxAttempts: 2, Backoff: backoff.Policy{Kind: backoff.Fixed, Initial: time.Millisecond}, InlineBudget: 2 * time.Second}
	worker := lane
	worker.InlineBudget = 0
	before := observer.Attempt{Number: 1, Error: "503"}
	unanswered := observer.Attempt{Number: 1, Error: "no answer", Unknown: true}
	tests := map[string]struct {
		retry    middleware.RetryConfig
		attempts []observer.Attempt
		until    time.Duration
		state    observer.State
		want     int // attempts
		after    time.Duration
	}{
		"fits the lane":                {lane, nil, time.Second, observer.Done, 1, time.Second},
		"does not fit the lane":        {lane, nil, 3 * time.Second, observer.Queued, 0, 0},
		"in a worker":                  {worker, nil, time.Millisecond, observer.Queued, 0, 0},
		"in a worker, at once":         {worker, nil, 0, observer.Queued, 0, 0},
		"tried before":                 {worker, []observer.Attempt{before}, time.Hour, observer.Scheduled, 1, 0},
		"not answered before":          {worker, []observer.Attempt{unanswered}, time.Hour, observer.Unknown, 1, 0},
		"with the last attempt to go":  {lane, []observer.Attempt{before}, time.Second, observer.Done, 2, time.Second},
		"time that has passed already": {lane, nil, -time.Second, observer.Done, 1, time.Millisecond},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				until := time.Now().Add(tt.until)
				act := &script{answers: []error{observer.NotTried(errTransient, until), nil}}
				d := newDelivery()
				d.Attempts = tt.attempts
				began := time.Now()
				chain := observer.Chain(middleware.DeadLetter{}.Middleware(), middleware.Defer(), middleware.Retry(tt.retry))
				if _, err := chain(act).Execute(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if d.State != tt.state || len(d.Attempts) != tt.want || time.Since(began) != tt.after {
					t.Errorf("%s with %d attempts after %s, want %s with %d after %s",
						d.State, len(d.Attempts), time.Since(began), tt.state, tt.want, tt.after)
				}
				if d.State.Due() && (!d.RunAt.Equal(until) || d.Error != errTransient.Error()) {
					t.Errorf("due %s: %s", d.RunAt, d.Error)
				}
			})
		})
	}
}

// What is never tried does not wait in its lane for ever, and expires.
func TestWhatIsNeverTriedEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		never := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
			return observer.Result{}, observer.NotTried(errTransient, time.Now())
		})
		run := observer.Chain(middleware.DeadLetter{}.Middleware(), middleware.Defer(),
			middleware.Retry(middleware.RetryConfig{MaxAge: time.Hour, InlineBudget: time.Second}))(never)
		d, began := newDelivery(), time.Now()
		d.CreatedAt = began
		if _, err := run.Execute(t.Context(), d); err != nil || d.State != observer.Queued || time.Since(began) > 1100*time.Millisecond {
			t.Errorf("%s after %s (%v)", d.State, time.Since(began), err)
		}
		<-time.After(time.Hour)
		if _, err := run.Execute(t.Context(), d); err != nil || d.State != observer.Dead || d.Reason != observer.ReasonExpired || len(d.Attempts) != 0 {
			t.Errorf("%s (%s) with %d attempts (%v)", d.State, d.Reason, len(d.Attempts), err)
		}
	})
}
