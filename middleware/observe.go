package middleware

import (
	"context"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
)

// Observer writes the one line that a delivery leaves in the log, at its end,
// and counts how it ended. Its fields are required.
type Observer struct {
	Logger   *slog.Logger
	Counters *Counters
}

// Middleware stands around the chain that decides how a delivery ends.
func (o Observer) Middleware() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			began := time.Now()
			result, err := next.Execute(ctx, d)
			o.Ended(ctx, d, time.Since(began), err)
			return result, err
		})
	}
}

// Unrecorded stands around everything and tells of a delivery that could not be
// stored as it ended, which happens only while the process stops.
func (o Observer) Unrecorded() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
			began := time.Now()
			result, err := next.Execute(ctx, d)
			if err != nil {
				o.Ended(ctx, d, time.Since(began), err)
			}
			return result, err
		})
	}
}

// Ended records the end of a delivery. unrecorded is the error of one whose
// outcome could not be stored, or nil.
func (o Observer) Ended(ctx context.Context, d *observer.Delivery, took time.Duration, unrecorded error) {
	total := o.Counters.count(d.State, unrecorded)
	level := levelOf(d.State, unrecorded)
	if !o.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("delivery", d.Key), slog.String("observer", d.Observer), slog.String("action_type", d.ActionType),
		slog.String("state", string(d.State)), slog.Int("attempts", len(d.Attempts)), slog.Duration("took", took),
	}
	if d.State.Due() {
		attrs = append(attrs, slog.Time("run_at", d.RunAt))
	}
	if n := len(d.Attempts); n > 0 && d.Attempts[n-1].Cached {
		attrs = append(attrs, slog.Bool("cached", true))
	}
	if d.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(d.Reason)))
	}
	if d.Error != "" {
		attrs = append(attrs, slog.String("error", d.Error))
	}
	if unrecorded != nil {
		attrs = append(attrs, slog.String("unrecorded", unrecorded.Error()))
	}
	if level == slog.LevelError {
		attrs = append(attrs, slog.Int64("state_total", total))
	}
	o.Logger.LogAttrs(ctx, level, "delivery", attrs...)
}

func levelOf(state observer.State, unrecorded error) slog.Level {
	switch {
	case unrecorded != nil, state == observer.Dead, state == observer.Dropped:
		return slog.LevelError
	case state.Due():
		return slog.LevelWarn
	}
	return slog.LevelInfo
}
