package middleware

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
)

// Fallback runs another action in place of one that is given up, or whose
// endpoint takes nothing. It does so by storing a delivery of its own, which is
// sent, retried and dead-lettered like every other, and has no fallback. Nil is
// no fallback; its fields are required.
type Fallback struct {
	// WhenOpen runs it also while the circuit breaker of the endpoint is open, in
	// place of waiting. Without, it only runs when the delivery is given up.
	WhenOpen bool
	// Delivery makes the delivery of the fallback of d. It has the same key each
	// time, so that what is handed over twice is stored once.
	Delivery func(d *observer.Delivery) *observer.Delivery
	// Keep stores it, and Wake tells the workers.
	Keep Keep
	Wake func()
	// Logger is for what cannot be stored.
	Logger *slog.Logger
}

// Middleware stands inside what decides about an error for good. The fallback is
// stored before the delivery ends, so that a crash in between makes both run and
// not neither.
func (f *Fallback) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		if f == nil {
			return next
		}
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			result, err := next.Execute(ctx, d)
			if err == nil || redriven(d) || !f.takes(err) {
				return result, err
			}
			return result, f.handOver(ctx, d, err)
		})
	}
}

// takes reports whether the fallback is for a delivery that ended so. What may
// have arrived, and what would be as broken anywhere else, is left to a person.
func (f *Fallback) takes(err error) bool {
	if _, deferred := observer.DeferredUntil(err); deferred {
		return f.WhenOpen && refusedByBreaker(err)
	}
	switch observer.ReasonOf(err) {
	case observer.ReasonExhausted, observer.ReasonPermanent, observer.ReasonGone, observer.ReasonExpired:
		return true
	default:
		return false
	}
}

func refusedByBreaker(err error) bool {
	_, untried := observer.NotTriedUntil(err)
	return untried && errors.Is(err, ErrOpen)
}

// handOver stores the fallback of d, and gives the error with which d ends. It
// names the fallback.
func (f *Fallback) handOver(ctx context.Context, d *observer.Delivery, cause error) error {
	other := f.Delivery(d)
	other.Enqueue(time.Now())
	if err := f.Keep.Store(ctx, other, f.Logger); err != nil {
		return observer.Deferred(fmt.Errorf("its fallback cannot be stored: %w; after: %s", err, cause.Error()), time.Now())
	}
	f.Wake()
	if refusedByBreaker(cause) { // and that is no longer waited for
		return observer.Permanent(observer.ReasonFallback, fmt.Errorf("handed to its fallback %s: %s", other.Key, cause.Error()))
	}
	return fmt.Errorf("%w; handed to its fallback %s", cause, other.Key)
}
