package topology

import (
	"context"
	"errors"
	"fmt"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
)

// RunStored runs a delivery from the state store with the chain of its action
// and leaves how it ended in d; it is the [delivery.Run] of workers and of
// redrives. The caller stores the outcome.
func (t *Topology) RunStored(ctx context.Context, d *observer.Delivery) error {
	if d.Malformed != nil {
		return t.runMalformed(ctx, d)
	}
	action, ok := t.actions.Load().lookup(d)
	if !ok {
		return t.buryStored(ctx, d, observer.ReasonUnconfigured, fmt.Errorf(
			"the configuration has no action %d of type %s in observer %q any more; put it back or remove this delivery",
			d.Action, d.ActionType, d.Observer))
	}
	if d.Reason == observer.ReasonCondition && action.condition != nil {
		return t.runUnmatched(ctx, d, action)
	}
	_, err := action.Run.Execute(ctx, d)
	return err
}

// runUnmatched runs a delivery whose condition could not be evaluated, if the
// condition wants it now. One that it does not want is done.
func (t *Topology) runUnmatched(ctx context.Context, d *observer.Delivery, action storedAction) error {
	matched, err := action.condition.Match(ctx, d.Event)
	switch {
	case err != nil:
		return t.buryStored(ctx, d, observer.ReasonCondition, err)
	case matched:
		_, err := action.Run.Execute(ctx, d)
		return err
	}
	d.State, d.Reason, d.Error = observer.Done, "", ""
	t.layers.observe.Ended(ctx, d, 0, nil)
	return nil
}

// keepMalformed makes a dead letter of a log entry that is not an event.
// Invariant 10: what cannot be understood is kept, and the rest goes on.
func (t *Topology) keepMalformed(ctx context.Context, m *observer.Malformed) error {
	d := &observer.Delivery{Key: m.ID, Malformed: m}
	dead := middleware.DeadLetter{Keep: t.layers.keep, Logger: t.logger}
	err := dead.Bury(ctx, d, observer.Permanent(observer.ReasonMalformed, errors.New(m.Reason)))
	t.layers.observe.Ended(ctx, d, 0, err)
	return err
}

// runMalformed reads a repaired log entry again and runs it as an event.
func (t *Topology) runMalformed(ctx context.Context, d *observer.Delivery) error {
	refetcher := t.refetcher(d.Malformed.Source)
	if refetcher == nil {
		return t.buryStored(ctx, d, observer.ReasonMalformed, fmt.Errorf(
			"the configuration has no database %q to read the entry from again", d.Malformed.Source))
	}
	msg, err := refetcher.Refetch(ctx, d.Malformed.Position)
	switch {
	case errors.Is(err, observer.ErrNotFound):
		return t.buryStored(ctx, d, observer.ReasonMalformed, fmt.Errorf("the entry is no longer in the change log: %s", d.Malformed.Reason))
	case err != nil:
		return err
	case msg.Malformed != nil:
		return t.buryStored(ctx, d, observer.ReasonMalformed, errors.New(msg.Malformed.Reason))
	}
	if err := t.Executor.Handle(withoutWaiting(ctx), msg.Event); err != nil {
		return err
	}
	d.State = observer.Done
	return nil
}

// withoutWaiting has deliveries that would wait scheduled instead: somebody
// waits for the answer, and room among the dead letters may depend on it.
func withoutWaiting(ctx context.Context) context.Context {
	now := make(chan struct{})
	close(now)
	return observer.WithDrain(ctx, now)
}

func (t *Topology) refetcher(source string) observer.Refetcher {
	for _, db := range t.Databases {
		if db.Source.Name() == source {
			return db.Source
		}
	}
	return nil
}

func (t *Topology) buryStored(ctx context.Context, d *observer.Delivery, reason observer.Reason, cause error) error {
	dead := middleware.DeadLetter{Logger: t.logger}
	err := dead.Bury(ctx, d, observer.Permanent(reason, cause))
	t.layers.observe.Ended(ctx, d, 0, err)
	return err
}
