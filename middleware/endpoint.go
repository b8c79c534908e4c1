package middleware

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
)

// Attempted is told how each attempt at an endpoint went.
type Attempted func(ctx context.Context, endpoint string, took time.Duration, err error)

// Report tells attempted about every attempt of a delivery that has an
// endpoint.
func Report(attempted Attempted) observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			began := time.Now()
			result, err := next.Execute(ctx, d)
			if d.Endpoint != "" {
				attempted(ctx, d.Endpoint, time.Since(began), err)
			}
			return result, err
		})
	}
}
