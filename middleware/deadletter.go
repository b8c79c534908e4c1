package middleware

import (
	"context"
	"log/slog"

	"github.com/fraiseql/observer"
)

// OnFailure says what becomes of a delivery that failed for good.
type OnFailure string

// The choices, as users write them in on_failure.
const (
	// ToDeadLetters keeps it for a person.
	ToDeadLetters OnFailure = "dlq"
	// Alert keeps it and raises the alert.
	Alert OnFailure = "alert"
	// LogOnly drops it with one log line.
	LogOnly OnFailure = "log"
)

// DeadLetter is what happens to deliveries that failed for good.
type DeadLetter struct {
	// OnFailure is ToDeadLetters when empty.
	OnFailure OnFailure
	// Keep stores dead deliveries.
	Keep Keep
	// Alert is called after a dead delivery was kept, when OnFailure asks for
	// it. It must not block.
	Alert func(ctx context.Context, d *observer.Delivery)
	// Logger is required.
	Logger *slog.Logger
}

// Middleware catches the errors that no retry will mend.
func (l DeadLetter) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			result, err := next.Execute(ctx, d)
			if err == nil {
				if d.State != observer.Scheduled {
					d.State, d.Reason, d.Error = observer.Done, "", ""
				}
				return result, nil
			}
			if d.State == observer.Scheduled {
				return result, err // it could not be stored, which is not its own failure
			}
			return result, l.Bury(ctx, d, err)
		})
	}
}

// Bury records that d failed for good because of cause. It returns an error
// only when that could not be recorded before the process stopped. One for which
// there is no room then is left scheduled. A delivery that was dead before stays so, whatever OnFailure says: somebody kept it, and
// the person who redrives it sees the error.
func (l DeadLetter) Bury(ctx context.Context, d *observer.Delivery, cause error) error {
	redriven := d.State == observer.Dead
	d.Reason, d.Error = observer.ReasonOf(cause), cause.Error()
	if l.OnFailure == LogOnly && !redriven {
		d.State = observer.Dropped
		return nil
	}
	d.State = observer.Dead
	if err := store(ctx, l.Keep, d, l.Logger); err != nil {
		return err
	}
	kept := d.State == observer.Dead // and not scheduled, for want of room
	if l.OnFailure == Alert && l.Alert != nil && kept && !redriven {
		l.Alert(ctx, d)
	}
	return nil
}
