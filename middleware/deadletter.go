package middleware

import (
	"context"

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

// DeadLetter decides what happens to deliveries that failed for good. Storing
// them is the business of whoever runs the chain.
type DeadLetter struct {
	// OnFailure is ToDeadLetters when empty.
	OnFailure OnFailure
	// Alert is called with a delivery that is given up, when OnFailure asks for
	// it; nil leaves that to whoever stores the delivery. It must not block. The
	// same delivery may come twice when the process dies before it is stored.
	Alert func(ctx context.Context, d *observer.Delivery)
}

// Middleware catches the errors that no retry will mend.
func (l DeadLetter) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			result, err := next.Execute(ctx, d)
			switch {
			case err != nil:
				l.Bury(ctx, d, err)
			case !d.State.Due(): // not deferred
				d.Succeed()
			}
			return result, nil
		})
	}
}

// Bury decides that d failed for good because of cause. One that a person has
// had run again is kept, whatever OnFailure says, and raises no further alert:
// that person sees the error. One whose fallback runs in its place is no failure
// for a person.
func (l DeadLetter) Bury(ctx context.Context, d *observer.Delivery, cause error) {
	if observer.ReasonOf(cause) == observer.ReasonFallback || l.OnFailure == LogOnly && !redriven(d) {
		d.Drop(cause)
		return
	}
	d.Bury(cause)
	l.Raise(ctx, d)
}

// Raise raises the alert about a delivery that is dead, if one is due.
func (l DeadLetter) Raise(ctx context.Context, d *observer.Delivery) {
	if l.OnFailure == Alert && l.Alert != nil && !redriven(d) {
		l.Alert(ctx, d)
	}
}

func redriven(d *observer.Delivery) bool { return d.Redrives > 0 || d.ClaimedFrom == observer.Dead }
