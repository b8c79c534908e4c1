package middleware

import (
	"context"

	"github.com/fraiseql/observer"
)

// Defer takes the failures whose next attempt is far away and has them tried
// again later. Storing that is the business of whoever runs the chain.
func Defer() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			result, err := next.Execute(ctx, d)
			until, deferred := observer.DeferredUntil(err)
			if !deferred {
				return result, err
			}
			d.Retry(err, until)
			return result, nil
		})
	}
}
