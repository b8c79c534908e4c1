package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

// RunStored runs a delivery from the state store with the chain of its action
// and leaves how it ended in d; it is the [delivery.Run] of workers and of
// redrives. The caller stores the outcome.
func (t *Topology) RunStored(ctx context.Context, d *observer.Delivery) error {
	endpoint, attempts := d.Endpoint, len(d.Attempts)
	defer func() {
		if !tried(d.Attempts[attempts:]) {
			t.layers.endpoints.Untried(endpoint)
		}
	}()
	return t.runStored(ctx, d)
}

// tried reports whether anything was sent.
func tried(attempts []observer.Attempt) bool {
	return slices.ContainsFunc(attempts, func(a observer.Attempt) bool { return !a.Cached })
}

func (t *Topology) runStored(ctx context.Context, d *observer.Delivery) error {
	if d.Malformed != nil {
		return t.runMalformed(ctx, d)
	}
	if database, ok := strings.CutPrefix(d.Observer, bridgeQueue("")); ok && d.ActionType == unpublishedAction {
		return t.runUnpublished(ctx, d, database)
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
	return action.execute(ctx, d)
}

// execute runs a delivery that is in the store. Who receives it is asked again:
// the configuration may have changed since.
func (a storedAction) execute(ctx context.Context, d *observer.Delivery) error {
	if a.preparer != nil {
		d.Endpoint = a.preparer.Endpoint(ctx, d)
	}
	_, err := a.run.Execute(ctx, d)
	return err
}

// MayRepeat reports whether a delivery may be sent again that may have arrived.
func (t *Topology) MayRepeat(d *observer.Delivery) bool {
	action, ok := t.actions.Load().lookup(d)
	return !ok || action.mayRepeat
}

// giveUp decides what becomes of a delivery that a worker does not run because
// of cause.
func (t *Topology) giveUp(ctx context.Context, d *observer.Delivery, cause error) {
	action, _ := t.actions.Load().lookup(d) // without one, it is a plain dead letter
	action.dead.Bury(ctx, d, cause)
	t.layers.endpoints.Untried(d.Endpoint)
	t.layers.observe.Ended(ctx, d, 0, nil)
}

// runUnmatched runs a delivery whose condition could not be evaluated, if the
// condition wants it now. One that it does not want is done.
func (t *Topology) runUnmatched(ctx context.Context, d *observer.Delivery, action storedAction) error {
	matched, err := action.condition.Match(ctx, d.Event)
	switch {
	case err != nil:
		return t.buryStored(ctx, d, observer.ReasonCondition, err)
	case matched:
		return action.execute(ctx, d)
	}
	d.Succeed()
	t.layers.observe.Ended(ctx, d, 0, nil)
	return nil
}

// keepMalformed makes a dead letter of a log entry that is not an event.
// Invariant 10: what cannot be understood is kept, and the rest goes on.
func (t *Topology) keepMalformed(ctx context.Context, m *observer.Malformed) error {
	d := &observer.Delivery{Key: m.ID, Malformed: m}
	if _, err := t.database(m.Source); err == nil && t.stream != nil {
		d.Queue = bridgeQueue(m.Source) // to read it again takes the database
	}
	return t.layers.bury(ctx, t.actions.Load().malformed, d, observer.Permanent(observer.ReasonMalformed, errors.New(m.Reason)))
}

// runMalformed reads a repaired log entry again and runs it as an event.
func (t *Topology) runMalformed(ctx context.Context, d *observer.Delivery) error {
	source := d.Malformed.Source
	refetcher, err := t.refetcher(ctx, source)
	switch _, foreign := t.database(source); {
	case errors.Is(err, observer.ErrNotFound):
		return t.handToBridge(ctx, d)
	case err != nil:
		return err
	case foreign != nil && !t.executes:
		return t.buryStored(ctx, d, observer.ReasonMalformed, fmt.Errorf(
			"the entry is in %s, and this process runs no actions: retry it with the configuration of a worker", source))
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
	if err := t.handOver(ctx, source, msg.Event); err != nil {
		return err
	}
	d.Succeed()
	return nil
}

// handToBridge has a process that reads the database run an entry of its log,
// which was kept when the changes went through no stream. Where nobody reads the
// database it stays what it is.
func (t *Topology) handToBridge(ctx context.Context, d *observer.Delivery) error {
	source := d.Malformed.Source
	if t.stream != nil {
		read, err := t.isRead(ctx, source)
		if err != nil {
			return err
		}
		if read {
			d.Enqueue(time.Now())
			d.Queue, d.Reason = bridgeQueue(source), ""
			d.Error = "to read the entry again takes database " + source + ": the bridge that reads it does that next"
			return nil
		}
	}
	return t.buryStored(ctx, d, observer.ReasonMalformed, fmt.Errorf(
		"the configuration has no database %q to read the entry from again, and no bridge reads one at the moment", source))
}

// isRead reports whether some process has the lease of a database.
func (t *Topology) isRead(ctx context.Context, database string) (bool, error) {
	leases, err := t.Store.Leases(ctx, DatabaseLease(database))
	return slices.ContainsFunc(leases, func(l observer.Lease) bool { return l.Name == DatabaseLease(database) && l.Running() }), err
}

// handOver takes an event the way that those after it in its log took.
func (t *Topology) handOver(ctx context.Context, source string, e *observer.Event) error {
	if _, err := t.database(source); err == nil && t.stream != nil {
		return t.publish(ctx, source, e)
	}
	return t.Executor.Handle(withoutWaiting(ctx), e)
}

// withoutWaiting has deliveries that would wait scheduled instead: somebody
// waits for the answer, and room among the dead letters may depend on it.
func withoutWaiting(ctx context.Context) context.Context {
	now := make(chan struct{})
	close(now)
	return observer.WithDrain(ctx, now)
}

func (t *Topology) refetcher(ctx context.Context, source string) (observer.Refetcher, error) {
	db, err := t.database(source)
	if err == nil {
		return db.Source, nil
	}
	if t.stream == nil {
		return nil, err
	}
	return t.stream.sourceOf(ctx, source)
}

func (t *Topology) buryStored(ctx context.Context, d *observer.Delivery, reason observer.Reason, cause error) error {
	d.Bury(observer.Permanent(reason, cause))
	t.layers.observe.Ended(ctx, d, 0, nil)
	return nil
}
