package middleware

import (
	"context"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/failpoint"
)

// RetryConfig says how often and how long to try.
type RetryConfig struct {
	// MaxAttempts is how many attempts a delivery gets, the first included; 3
	// when zero. With a Schedule it is one more than that has waits.
	MaxAttempts int
	// Backoff is the wait between attempts, see [backoff.Policy.Retry]. What the
	// receiver asks for with Retry-After wins over it.
	Backoff backoff.Policy
	// Schedule are the waits after the first, second... failure, in place of
	// Backoff, see [backoff.AtLeast].
	Schedule []time.Duration
	// MaxAge is how long after its first attempt, or after it was stored if that
	// came first, an attempt may begin; 0 sets no limit. It is no limit to what a
	// person has redriven from the dead letters.
	MaxAge time.Duration
	// InlineBudget is how long the attempts after the first may take here,
	// waits included. What would take longer is deferred, so that no lane
	// sleeps behind a receiver that is down. Zero defers after every attempt.
	InlineBudget time.Duration
	// NeverRepeat gives up an attempt whose outcome is unknown instead of
	// repeating what may have arrived.
	NeverRepeat bool
}

// Retry makes attempts until one succeeds, the error is permanent, the attempts
// are used up, or waiting for the next one would exceed the budget; in the last
// case, and when the process stops, the error is marked [observer.Deferred].
// Every attempt is recorded in the delivery. One that could not be made
// ([observer.NotTried]) is none: it is waited for within the budget, else deferred.
//
// Attempts recorded before count: a delivery that was deferred gets what is
// left. One that a person runs again after that gets one attempt each time.
func Retry(cfg RetryConfig) observer.Middleware[observer.Action] {
	if cfg.MaxAttempts <= 0 {
		cfg.MaxAttempts = 3
	}
	if len(cfg.Schedule) > 0 {
		cfg.MaxAttempts = len(cfg.Schedule) + 1
	}
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			return cfg.run(ctx, d, next)
		})
	}
}

func (cfg RetryConfig) run(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	began := time.Now()
	if err := cfg.expired(d, began); err != nil {
		return observer.Result{}, err
	}
	for {
		// Invariant 5: who has lost its lease, maybe while it was paused here, sends
		// nothing more.
		if err := observer.Fence(ctx); err != nil {
			return observer.Result{}, observer.Deferred(err, time.Now())
		}
		result, err := try(ctx, d, next)
		if until, untried := observer.NotTriedUntil(err); untried {
			if cfg.waits(ctx, d, began, until) {
				continue
			}
			return result, observer.Deferred(err, until)
		}
		if err == nil || !observer.Retryable(err) {
			return result, err
		}
		due, verdict := cfg.verdict(ctx, d, err)
		if verdict != nil {
			return result, verdict
		}
		if leftLane(ctx, d) || due.Sub(began) > cfg.InlineBudget || !backoff.Wait(ctx, observer.Drain(ctx), time.Until(due)) {
			return result, observer.Deferred(err, due)
		}
	}
}

// waits waits here for an attempt that could not be made, and reports whether it
// may be made now: not when that takes longer than the lane has, nor when nobody
// waits in a lane.
func (cfg RetryConfig) waits(ctx context.Context, d *observer.Delivery, began, until time.Time) bool {
	if leftLane(ctx, d) || until.Sub(began) >= cfg.InlineBudget {
		return false
	}
	// Whatever until says, it cannot be asked for without end.
	return backoff.Wait(ctx, observer.Drain(ctx), max(time.Until(until), time.Millisecond))
}

// verdict says when the next attempt after a transient failure is due, or gives
// the error that there is none here.
func (cfg RetryConfig) verdict(ctx context.Context, d *observer.Delivery, err error) (due time.Time, verdict error) {
	used, now := len(d.Attempts), time.Now()
	due = now.Add(cfg.wait(used, err))
	limit := startOf(d, now).Add(cfg.MaxAge)
	switch {
	case cfg.NeverRepeat && observer.IsOutcomeUnknown(err):
		return due, observer.Permanent(observer.ReasonOutcomeUnknown,
			fmt.Errorf("sent and not answered, so it may have arrived, and is not sent again (on_unknown = \"dead_letter\"): %w", err))
	case d.ClaimedFrom == observer.Dead:
		return due, err // a person asked for one attempt and sees how it went
	case ctx.Err() != nil:
		// Stopped in the middle: the same request is sent again under the same
		// key.
		return due, observer.Deferred(fmt.Errorf("interrupted by shutdown: %w", err), now)
	case used >= cfg.MaxAttempts:
		return due, fmt.Errorf("attempt %d of %d failed: %w", used, cfg.MaxAttempts, err)
	case cfg.MaxAge > 0 && due.After(limit):
		return due, observer.Permanent(observer.ReasonExpired,
			fmt.Errorf("attempt %d failed, and the next would come later than max_age = %s allows: %w", used, cfg.MaxAge, err))
	}
	return due, nil
}

// expired is the error of a delivery that waited past its age, as behind a pause
// of its endpoint, and is too late to be sent. What a person has redriven from
// the dead letters is sent all the same, then and later.
func (cfg RetryConfig) expired(d *observer.Delivery, now time.Time) error {
	asked := d.ClaimedFrom == observer.Dead || d.Redrives > 0
	age := now.Sub(startOf(d, now))
	if cfg.MaxAge <= 0 || age <= cfg.MaxAge || asked {
		return nil
	}
	cause := fmt.Errorf("it waited for %s, which is longer than max_age = %s allows, and is not sent any more", age.Round(time.Second), cfg.MaxAge)
	if n := len(d.Attempts); n > 0 && d.Attempts[n-1].Error != "" {
		cause = fmt.Errorf("%w; the last attempt failed: %s", cause, d.Attempts[n-1].Error)
	}
	return observer.Permanent(observer.ReasonExpired, cause)
}

// startOf is when the age of d begins to count: now, when it is new.
func startOf(d *observer.Delivery, now time.Time) time.Time {
	start := now
	if len(d.Attempts) > 0 {
		start = d.Attempts[0].At
	}
	if !d.CreatedAt.IsZero() && d.CreatedAt.Before(start) {
		return d.CreatedAt
	}
	return start
}

func (cfg RetryConfig) wait(failures int, err error) time.Duration {
	if asked, ok := observer.RetryAfterOf(err); ok {
		return asked
	}
	if n := len(cfg.Schedule); n > 0 {
		return backoff.AtLeast(cfg.Schedule[min(failures, n)-1])
	}
	return cfg.Backoff.Retry(failures)
}

// try makes one attempt and records it. What was not tried is no attempt.
func try(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	failpoint.Hit(failpoint.Attempt)
	began := time.Now()
	result, err := next.Execute(ctx, d)
	if _, untried := observer.NotTriedUntil(err); untried {
		return result, err
	}
	failpoint.Hit(failpoint.Answered)
	record := observer.Attempt{
		Number: len(d.Attempts) + 1, At: began, Duration: time.Since(began),
		Status: result.Status, Detail: result.Detail, Unknown: observer.IsOutcomeUnknown(err),
	}
	if err != nil {
		record.Error, record.Stack = err.Error(), stackOf(err)
	}
	d.Attempts = append(d.Attempts, record)
	return result, err
}
