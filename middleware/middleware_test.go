package middleware_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/middleware"
)

// script is an action that gives one prepared answer per attempt, the last one
// again and again.
type script struct {
	answers []error
	calls   int
}

func (s *script) Execute(context.Context, *observer.Delivery) (observer.Result, error) {
	answer := s.answers[min(s.calls, len(s.answers)-1)]
	s.calls++
	return observer.Result{Status: 500, Detail: "answer"}, answer
}

func newDelivery() *observer.Delivery {
	return observer.NewDelivery(&observer.Event{ID: "e1", EntityType: "Order", EntityID: "7"}, "notify", 0, "webhook")
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

var errTransient = errors.New("connection refused")

func TestRetryMakesExactlyMaxAttempts(t *testing.T) {
	t.Parallel()
	for _, attempts := range []int{1, 2, 3, 7} {
		synctest.Test(t, func(t *testing.T) {
			act := &script{answers: []error{errTransient}}
			d := newDelivery()
			_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: attempts, InlineBudget: time.Hour})(act).Execute(t.Context(), d)
			if act.calls != attempts || len(d.Attempts) != attempts {
				t.Errorf("%d calls and %d records, want %d", act.calls, len(d.Attempts), attempts)
			}
			if err == nil || observer.ReasonOf(err) != observer.ReasonExhausted || !errors.Is(err, errTransient) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestRetryStops(t *testing.T) {
	t.Parallel()
	permanent := observer.Permanent(observer.ReasonGone, errors.New("410"))
	tests := map[string]struct {
		answers []error
		calls   int
		err     error
	}{
		"at success":              {[]error{errTransient, nil}, 2, nil},
		"at a permanent error":    {[]error{errTransient, permanent}, 2, permanent},
		"at once, when permanent": {[]error{permanent}, 1, permanent},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				act := &script{answers: tt.answers}
				_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: 5, InlineBudget: time.Hour})(act).Execute(t.Context(), newDelivery())
				if act.calls != tt.calls || !errors.Is(err, tt.err) || (tt.err == nil) != (err == nil) {
					t.Errorf("%d calls, error %v; want %d, %v", act.calls, err, tt.calls, tt.err)
				}
			})
		})
	}
}

func TestRetryWaits(t *testing.T) {
	t.Parallel()
	fixed := backoff.Policy{Kind: backoff.Fixed, Initial: time.Second}
	tests := map[string]struct {
		answers  []error
		min, max time.Duration
	}{
		"by its backoff":         {[]error{errTransient, errTransient, nil}, 2 * time.Second, 2400 * time.Millisecond},
		"as the receiver asks":   {[]error{observer.RetryAfter(errTransient, 7*time.Second), nil}, 7 * time.Second, 7 * time.Second},
		"no less when asked for": {[]error{observer.RetryAfter(errTransient, 0), nil}, 0, 0},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: 5, Backoff: fixed, InlineBudget: time.Hour})(
					&script{answers: tt.answers}).Execute(t.Context(), newDelivery())
				if took := time.Since(began); err != nil || took < tt.min || took > tt.max {
					t.Errorf("took %s, error %v", took, err)
				}
			})
		})
	}
}

func TestRetryDefersWhatItsBudgetCannotWaitFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		d := newDelivery()
		act := &script{answers: []error{observer.RetryAfter(errTransient, time.Hour)}}
		began := time.Now()
		_, err := middleware.Retry(middleware.RetryConfig{InlineBudget: 2 * time.Second})(act).Execute(t.Context(), d)
		until, deferred := observer.DeferredUntil(err)
		if !deferred || !until.Equal(began.Add(time.Hour)) || time.Since(began) != 0 {
			t.Errorf("deferred %v until %v after %s", deferred, until, time.Since(began))
		}
	})
}

func TestRetryCountsTheAttemptsBeforeItWasDeferred(t *testing.T) {
	t.Parallel()
	d := newDelivery()
	d.State, d.Attempts = observer.Scheduled, make([]observer.Attempt, 2)
	act := &script{answers: []error{errTransient}}
	_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: 3})(act).Execute(t.Context(), d)
	if _, deferred := observer.DeferredUntil(err); deferred || act.calls != 1 || d.Attempts[2].Number != 3 {
		t.Errorf("%d calls, error %v, attempts %v", act.calls, err, d.Attempts)
	}
}

func TestRedriveIsOneAttempt(t *testing.T) {
	t.Parallel()
	d := newDelivery()
	d.ClaimedFrom, d.Attempts = observer.Dead, make([]observer.Attempt, 3)
	act := &script{answers: []error{errTransient}}
	_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: 3, InlineBudget: time.Hour})(act).Execute(t.Context(), d)
	if act.calls != 1 || len(d.Attempts) != 4 || !errors.Is(err, errTransient) {
		t.Errorf("%d calls, %d attempts, error %v", act.calls, len(d.Attempts), err)
	}
}

func TestRetryEndsItsWaitWhenTheProcessStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		drain := make(chan struct{})
		ended := make(chan error, 1)
		go func() {
			exact := backoff.Policy{Kind: backoff.Fixed, Initial: 20 * time.Second, Max: 20 * time.Second}
			_, err := middleware.Retry(middleware.RetryConfig{Backoff: exact, InlineBudget: time.Hour})(
				&script{answers: []error{errTransient}}).Execute(observer.WithDrain(t.Context(), drain), newDelivery())
			ended <- err
		}()
		began := time.Now()
		synctest.Wait()
		close(drain)
		if until, deferred := observer.DeferredUntil(<-ended); !deferred || !until.Equal(began.Add(20*time.Second)) || time.Since(began) != 0 {
			t.Errorf("deferred %v until %s after %s", deferred, until, time.Since(began))
		}
	})
}

func TestTimeoutBoundsOneAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hang := observer.ActionFunc(func(ctx context.Context, _ *observer.Delivery) (observer.Result, error) {
			<-ctx.Done()
			return observer.Result{}, ctx.Err()
		})
		began := time.Now()
		_, err := middleware.Timeout(3*time.Second)(hang).Execute(t.Context(), newDelivery())
		if time.Since(began) != 3*time.Second || !observer.Retryable(err) || !strings.Contains(err.Error(), "no answer within 3s") {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
	})
}

func TestRecoverMakesAPanicAnAttempt(t *testing.T) {
	t.Parallel()
	broken := observer.ActionFunc(func(context.Context, *observer.Delivery) (observer.Result, error) {
		var none *observer.Result
		return *none, nil
	})
	d := newDelivery()
	_, err := middleware.Retry(middleware.RetryConfig{})(middleware.Recover()(broken)).Execute(t.Context(), d)
	if err == nil || !strings.Contains(err.Error(), "nil pointer") || !strings.Contains(d.Attempts[0].Stack, "middleware_test.go") {
		t.Errorf("error %v, attempts %+v", err, d.Attempts)
	}
}

// kept is a store of deliveries that fails a number of times first.
type kept struct {
	failures   int
	deliveries []observer.Delivery
}

func (k *kept) keep(ctx context.Context, d *observer.Delivery) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if k.failures > 0 {
		k.failures--
		return observer.ErrFull
	}
	k.deliveries = append(k.deliveries, *d)
	return nil
}

func TestOnFailure(t *testing.T) {
	t.Parallel()
	tests := map[middleware.OnFailure]struct {
		state  observer.State
		alerts int
	}{
		middleware.ToDeadLetters: {observer.Dead, 0},
		middleware.Alert:         {observer.Dead, 1},
		middleware.LogOnly:       {observer.Dropped, 0},
	}
	for choice, tt := range tests {
		t.Run(string(choice), func(t *testing.T) {
			t.Parallel()
			alerts := 0
			dead := middleware.DeadLetter{OnFailure: choice, Alert: func(context.Context, *observer.Delivery) { alerts++ }}
			d := newDelivery()
			if _, err := dead.Middleware()(&script{answers: []error{errTransient}}).Execute(t.Context(), d); err != nil {
				t.Fatal(err)
			}
			if d.State != tt.state || alerts != tt.alerts || d.Reason != observer.ReasonExhausted {
				t.Errorf("%s (%s), %d alerts; want %+v", d.State, d.Reason, alerts, tt)
			}
			for name, again := range map[string]func(){
				"at once":     func() { d.ClaimedFrom = observer.Dead },
				"by a worker": func() { d.ClaimedFrom, d.Redrives = observer.Queued, 1 },
			} {
				again()
				if _, err := dead.Middleware()(&script{answers: []error{errTransient}}).Execute(t.Context(), d); err != nil {
					t.Fatal(err)
				}
				if d.State != observer.Dead || alerts != tt.alerts {
					t.Errorf("after a redrive %s that failed: %s, %d alerts", name, d.State, alerts)
				}
			}
		})
	}
}

func TestDeferredIsTriedAgainAndNotBuried(t *testing.T) {
	t.Parallel()
	chain := observer.Chain(middleware.DeadLetter{}.Middleware(), middleware.Defer(), middleware.Retry(middleware.RetryConfig{MaxAttempts: 2}))
	for _, tt := range []struct {
		answer error
		state  observer.State
	}{{errTransient, observer.Scheduled}, {observer.OutcomeUnknown(errTransient), observer.Unknown}, {nil, observer.Done}} {
		d := newDelivery()
		_, err := chain(&script{answers: []error{tt.answer}}).Execute(t.Context(), d)
		if err != nil || d.State != tt.state || d.RunAt.IsZero() != (tt.answer == nil) || d.Attempts[0].Unknown != (tt.state == observer.Unknown) {
			t.Errorf("%v: %v, %s at %s, %+v", tt.answer, err, d.State, d.RunAt, d.Attempts)
		}
	}
}

func TestRetryFollowsASchedule(t *testing.T) {
	t.Parallel()
	d := newDelivery()
	cfg := middleware.RetryConfig{MaxAttempts: 9, Schedule: []time.Duration{time.Minute, time.Hour}}
	for i, step := range cfg.Schedule {
		now := time.Now()
		_, err := middleware.Retry(cfg)(&script{answers: []error{errTransient}}).Execute(t.Context(), d)
		until, deferred := observer.DeferredUntil(err)
		if wait := until.Sub(now); !deferred || wait < step || wait > step+step/5+time.Minute/2 {
			t.Errorf("after attempt %d it waits %s (%v), want %s and up to a fifth more", i+1, wait, err, step)
		}
	}
	_, err := middleware.Retry(cfg)(&script{answers: []error{errTransient}}).Execute(t.Context(), d)
	if _, deferred := observer.DeferredUntil(err); deferred || observer.ReasonOf(err) != observer.ReasonExhausted || len(d.Attempts) != 3 {
		t.Errorf("after the schedule: %v with %d attempts", err, len(d.Attempts))
	}
}

func TestRetryEndsAtMaxAge(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		first, stored time.Duration // ago
		reason        observer.Reason
	}{
		"young":                    {30 * time.Minute, 30 * time.Minute, ""},
		"old":                      {59 * time.Minute, 0, observer.ReasonExpired},
		"stored before it was run": {time.Second, 59 * time.Minute, observer.ReasonExpired},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, now := newDelivery(), time.Now()
			d.Attempts, d.CreatedAt = []observer.Attempt{{Number: 1, At: now.Add(-tt.first)}}, now.Add(-tt.stored)
			cfg := middleware.RetryConfig{MaxAttempts: 9, MaxAge: time.Hour, Backoff: backoff.Policy{Kind: backoff.Fixed, Initial: 2 * time.Minute, Max: time.Hour}}
			_, err := middleware.Retry(cfg)(&script{answers: []error{errTransient}}).Execute(t.Context(), d)
			_, deferred := observer.DeferredUntil(err)
			if deferred != (tt.reason == "") || !deferred && observer.ReasonOf(err) != tt.reason {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
}

// Many that fail together come back spread over the whole wait, from its very
// beginning: half of them within its first half.
func TestRetryHasFullJitter(t *testing.T) {
	t.Parallel()
	const many = 1000
	cfg := middleware.RetryConfig{MaxAttempts: 9, Backoff: backoff.Policy{Initial: time.Hour, Max: 24 * time.Hour}}
	early := 0
	for range many {
		d, began := newDelivery(), time.Now()
		_, err := middleware.Retry(cfg)(&script{answers: []error{errTransient}}).Execute(t.Context(), d)
		until, deferred := observer.DeferredUntil(err)
		if wait := until.Sub(began); !deferred || wait > time.Hour+time.Minute {
			t.Fatalf("waits %s (%v), want up to an hour", wait, err)
		} else if wait < time.Hour/2 {
			early++
		}
	}
	if early < many*2/5 || early > many*3/5 {
		t.Errorf("%d of %d come back within the first half of the wait", early, many)
	}
}

// What waited for longer than max_age, as behind a pause, is not sent any more,
// unless a person asked for it.
func TestWhatIsTooOldIsNotSent(t *testing.T) {
	t.Parallel()
	type wait struct {
		stored, first time.Duration // ago; 0 is never
		from          observer.State
		redrives      int
	}
	for name, tt := range map[string]struct {
		wait
		calls  int
		reason observer.Reason
	}{
		"new":                      {wait{}, 1, ""},
		"queued, young":            {wait{stored: 59 * time.Minute, from: observer.Queued}, 1, ""},
		"queued, old":              {wait{stored: 61 * time.Minute, from: observer.Queued}, 0, observer.ReasonExpired},
		"tried, young":             {wait{stored: 50 * time.Minute, first: 59 * time.Minute, from: observer.Scheduled}, 1, ""},
		"tried, old":               {wait{stored: 50 * time.Minute, first: 61 * time.Minute, from: observer.Scheduled}, 0, observer.ReasonExpired},
		"old, redriven at once":    {wait{stored: 61 * time.Minute, from: observer.Dead}, 1, ""},
		"old, redriven by workers": {wait{stored: 61 * time.Minute, from: observer.Queued, redrives: 1}, 1, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			d, now := newDelivery(), time.Now()
			d.ClaimedFrom, d.Redrives = tt.from, tt.redrives
			if tt.stored > 0 {
				d.CreatedAt = now.Add(-tt.stored)
			}
			if tt.first > 0 {
				d.Attempts = []observer.Attempt{{Number: 1, At: now.Add(-tt.first), Error: "status 503"}}
			}
			act, before := &script{answers: []error{nil}}, len(d.Attempts)
			_, err := middleware.Retry(middleware.RetryConfig{MaxAttempts: 9, MaxAge: time.Hour})(act).Execute(t.Context(), d)
			if act.calls != tt.calls || len(d.Attempts) != before+tt.calls || (err == nil) != (tt.reason == "") ||
				err != nil && observer.ReasonOf(err) != tt.reason {
				t.Errorf("%s: %d calls, %d attempts, error %v", name, act.calls, len(d.Attempts), err)
			}
			if err != nil && (!strings.Contains(err.Error(), "1h1m0s") || tt.first > 0 && !strings.Contains(err.Error(), "status 503")) {
				t.Errorf("%s: error %v", name, err)
			}
		})
	}
}

func TestRetryDoesNotRepeatWhatMayHaveArrived(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx    context.Context
		err    error
		reason observer.Reason
	}{
		"not answered":              {t.Context(), observer.OutcomeUnknown(errTransient), observer.ReasonOutcomeUnknown},
		"stopped while it was sent": {stopped, observer.OutcomeUnknown(context.Canceled), observer.ReasonOutcomeUnknown},
		"stopped before that":       {stopped, context.Canceled, ""},
		"refused":                   {t.Context(), errTransient, ""},
	} {
		act := &script{answers: []error{tt.err}}
		_, err := middleware.Retry(middleware.RetryConfig{NeverRepeat: true})(act).Execute(tt.ctx, newDelivery())
		_, deferred := observer.DeferredUntil(err)
		if deferred != (tt.reason == "") || !deferred && observer.ReasonOf(err) != tt.reason || act.calls != 1 {
			t.Errorf("%s: %v after %d calls", name, err, act.calls)
		}
	}
}

func TestAlertsAreLimitedAndCountWhatTheyHoldBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &kept{}
		alerts := &middleware.Alerts{Name: "@alert", ActionType: "slack", MinInterval: time.Minute, Keep: store.keep, Wake: func() {}, Logger: quiet()}
		for range 5 {
			alerts.Raise(t.Context(), newDelivery())
		}
		<-time.After(time.Minute)
		d := newDelivery()
		d.Key = "other"
		alerts.Raise(t.Context(), d)
		if len(store.deliveries) != 2 {
			t.Fatalf("%d alerts, want 2", len(store.deliveries))
		}
		fields, err := store.deliveries[1].Event.Fields()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]any{"delivery": fields["delivery"], "suppressed": fields["suppressed"].(interface{ String() string }).String()}
		if d := cmp.Diff(map[string]any{"delivery": "other", "suppressed": "4"}, got); d != "" {
			t.Error(d)
		}
		if store.deliveries[0].State != observer.Queued || store.deliveries[0].Observer != "@alert" {
			t.Errorf("alert %+v", store.deliveries[0])
		}
	})
}

func TestObserverWritesOneLineAndCounts(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	counters := &middleware.Counters{}
	observe := middleware.Observer{Logger: slog.New(slog.NewTextHandler(&out, nil)), Counters: counters}
	dead := middleware.DeadLetter{OnFailure: middleware.LogOnly}
	chain := observer.Chain(observe.Middleware(), dead.Middleware())
	for _, answer := range []error{nil, errTransient, errTransient} {
		if _, err := chain(&script{answers: []error{answer}}).Execute(t.Context(), newDelivery()); err != nil {
			t.Fatal(err)
		}
	}
	if d := cmp.Diff(middleware.Counts{Done: 1, Dropped: 2}, counters.Read()); d != "" {
		t.Error(d)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 3 || !strings.Contains(lines[0], "state=done") || !strings.Contains(lines[2], "state=dropped") ||
		!strings.Contains(lines[2], "state_total=2") || !strings.Contains(lines[2], "delivery=e1/notify/0") {
		t.Errorf("log:\n%s", out.String())
	}
}
