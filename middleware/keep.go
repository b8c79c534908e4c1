package middleware

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Keep stores a delivery of the first pass in its State, durably.
type Keep func(ctx context.Context, d *observer.Delivery) error

// keepPause is the longest wait for a store that is away or full. It is short,
// because the events behind this one wait as well.
const keepPause = 5 * time.Second

// keepTimeout bounds storing when the process is being stopped by force.
const keepTimeout = 5 * time.Second

// Store keeps d, waiting for a store that is away or full. Giving up would lose
// the delivery, so only the end of the process ends the waiting; the event is
// then handled again after the restart, what it has finished included. So a
// store that is away is waited for as long as the process has. For room among
// the dead letters a process that stops does not wait: see insert.
func (keep Keep) Store(ctx context.Context, d *observer.Delivery, logger *slog.Logger) error {
	for failures := 1; ctx.Err() == nil; failures++ {
		err := keep.insert(ctx, d)
		full := errors.Is(err, observer.ErrFull)
		if err == nil || full && stopping(ctx) {
			return err
		}
		wait := backoff.Policy{Max: keepPause}.Delay(failures)
		logger.Error("delivery cannot be stored; intake of its entity waits",
			"delivery", d.Key, "state", string(d.State), "error", err, "wait", wait)
		var stop <-chan struct{}
		if full {
			stop = observer.Drain(ctx)
		}
		backoff.Wait(ctx, stop, wait)
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	return keep.insert(last, d)
}

// Invariant 7: insert keeps d. When the process stops and there is no room among the dead
// letters, what was tried is scheduled, for which there always is room: it is
// tried once more after the restart, instead of its whole event.
func (keep Keep) insert(ctx context.Context, d *observer.Delivery) error {
	err := keep(ctx, d)
	if !errors.Is(err, observer.ErrFull) || !stopping(ctx) || len(d.Attempts) == 0 {
		return err
	}
	d.State, d.Reason, d.RunAt = observer.Scheduled, "", time.Now()
	return keep(ctx, d)
}

func stopping(ctx context.Context) bool {
	select {
	case <-observer.Drain(ctx):
		return true
	default:
		return false
	}
}
