package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
)

// Known lets deliveries be that are in the store already. A process that is
// killed between storing a delivery and saving the checkpoint hands its event
// over again after the restart: run once more, the delivery could run beside
// the stored one, or leave a dead letter of something that arrived.
type Known struct {
	// Find gives the stored delivery, or [observer.ErrNotFound]. Nil knows none.
	Find func(ctx context.Context, key string) (*observer.Delivery, error)
	// Since is when this process started. What was recorded later cannot have
	// been handled by an earlier one, so the store is not asked.
	Since time.Time
	// Logger is required.
	Logger *slog.Logger
}

// Middleware stands around everything: such a delivery had its log line and its
// count when it was stored.
func (k Known) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		if k.Find == nil {
			return next
		}
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			if k.has(ctx, d) {
				return observer.Result{}, nil
			}
			return next.Execute(ctx, d)
		})
	}
}

// Invariant 7: has asks the store and takes over where the stored delivery stands. A store
// that cannot be read is no reason to wait: at worst something is repeated under
// its key.
func (k Known) has(ctx context.Context, d *observer.Delivery) bool {
	if !d.Event.Timestamp.Before(k.Since) {
		return false
	}
	stored, err := k.Find(ctx, d.Key)
	switch {
	case err == nil:
		d.State, d.Reason, d.Error, d.RunAt = stored.State, stored.Reason, stored.Error, stored.RunAt
		return true
	case !errors.Is(err, observer.ErrNotFound):
		k.Logger.Warn("cannot look for an earlier outcome of this delivery; running it", "delivery", d.Key, "error", err)
	}
	return false
}
