package middleware

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
)

// Timeout bounds one attempt. An attempt that takes longer fails with an error
// that can be retried and says how long it was given.
func Timeout(limit time.Duration) observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			attempt, cancel := context.WithTimeout(ctx, limit)
			defer cancel()
			result, err := next.Execute(attempt, d)
			if err != nil && errors.Is(attempt.Err(), context.DeadlineExceeded) && ctx.Err() == nil {
				err = fmt.Errorf("no answer within %s: %w", limit, err)
			}
			return result, err
		})
	}
}
