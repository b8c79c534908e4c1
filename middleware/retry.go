package middleware

import (
	"context"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// RetryConfig says how often and how long to try.
type RetryConfig struct {
	// MaxAttempts is how many attempts a delivery gets, the first included; 3
	// when zero.
	MaxAttempts int
	// Backoff is the wait between attempts. What the receiver asks for with
	// Retry-After wins over it.
	Backoff backoff.Policy
	// InlineBudget is how long the attempts after the first may take here,
	// waits included. What would take longer is deferred, so that no lane
	// sleeps behind a receiver that is down. Zero defers after every attempt.
	InlineBudget time.Duration
}

// Retry makes attempts until one succeeds, the error is permanent, the attempts
// are used up, or waiting for the next one would exceed the budget; in the last
// case, and when the process stops, the error is marked [observer.Deferred].
// Every attempt is recorded in the delivery.
//
// Attempts recorded before count: a delivery that was deferred gets what is
// left. A dead one gets one attempt for each time a person redrives it.
func Retry(cfg RetryConfig) observer.Middleware[observer.Action] {
	if cfg.MaxAttempts <= 0 {
		cfg.MaxAttempts = 3
	}
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			return cfg.run(ctx, d, next)
		})
	}
}

func (cfg RetryConfig) run(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	if d.State == observer.Dead {
		return attempt(ctx, d, next)
	}
	used, began := len(d.Attempts), time.Now()
	for {
		result, err := attempt(ctx, d, next)
		used++
		switch {
		case err == nil:
			return result, nil
		case ctx.Err() != nil:
			// Stopped in the middle: whether it arrived is unknown. The same
			// request is sent again under the same key.
			return result, observer.Deferred(fmt.Errorf("interrupted by shutdown: %w", err), time.Now())
		case !observer.Retryable(err):
			return result, err
		case used >= cfg.MaxAttempts:
			return result, fmt.Errorf("attempt %d of %d failed: %w", used, cfg.MaxAttempts, err)
		}
		wait := cfg.wait(used, err)
		due := time.Now().Add(wait)
		if due.Sub(began) > cfg.InlineBudget || !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return result, observer.Deferred(err, due)
		}
	}
}

func (cfg RetryConfig) wait(failures int, err error) time.Duration {
	if asked, ok := observer.RetryAfterOf(err); ok {
		return asked
	}
	return cfg.Backoff.Delay(failures)
}

// attempt makes one attempt and records it.
func attempt(ctx context.Context, d *observer.Delivery, next observer.Action) (observer.Result, error) {
	began := time.Now()
	result, err := next.Execute(ctx, d)
	record := observer.Attempt{
		Number: len(d.Attempts) + 1, At: began, Duration: time.Since(began),
		Status: result.Status, Detail: result.Detail,
	}
	if err != nil {
		record.Error = err.Error()
	}
	d.Attempts = append(d.Attempts, record)
	return result, err
}
