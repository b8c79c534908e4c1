package middleware

import (
	"context"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Keep stores a delivery in its State, durably. A nil Keep means that the
// caller of the chain stores it.
type Keep func(ctx context.Context, d *observer.Delivery) error

// keepTimeout bounds storing when the process is being stopped by force.
const keepTimeout = 5 * time.Second

// Defer hands a delivery whose next attempt is far away over to the durable
// store and calls it handled.
func Defer(keep Keep, logger *slog.Logger) observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			result, err := next.Execute(ctx, d)
			until, deferred := observer.DeferredUntil(err)
			if !deferred {
				return result, err
			}
			d.State, d.Error, d.RunAt = observer.Scheduled, err.Error(), until
			return result, store(ctx, keep, d, logger)
		})
	}
}

// store keeps d, waiting for a store that is away or full. Giving up would lose
// the delivery, so only the end of the process ends the waiting; the event is
// then handled again after the restart.
func store(ctx context.Context, keep Keep, d *observer.Delivery, logger *slog.Logger) error {
	if keep == nil {
		return nil
	}
	if ctx.Err() != nil {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
		defer cancel()
		return keep(last, d)
	}
	for failures := 1; ; failures++ {
		err := keep(ctx, d)
		if err == nil {
			return nil
		}
		wait := backoff.Policy{}.Delay(failures)
		logger.Error("delivery cannot be stored; intake of its entity waits",
			"delivery", d.Key, "state", string(d.State), "error", err, "wait", wait)
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return err
		}
	}
}
