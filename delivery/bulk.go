package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/failpoint"
)

// bulkPage is how many deliveries are read from the store at once.
const bulkPage = 500

// personLease is how long a crashed edit keeps others away.
const personLease = 30 * time.Second

// BulkOptions say how [Requeue] and [Discard] go about it. The zero value does
// everything at once.
type BulkOptions struct {
	// Rate is how many deliveries are changed in a second at most; 0 is no limit.
	Rate float64
	// DryRun changes nothing and counts what is selected.
	DryRun bool
	// Progress is called after each delivery, and once before the first; nil
	// tells nobody.
	Progress func(done, total int)
}

// BulkResult counts what became of the selected deliveries.
type BulkResult struct {
	// Selected is how many there were.
	Selected int
	// Changed is how many were requeued or discarded; Parked is how many of them
	// wait behind another of their lane.
	Changed, Parked int
	// Skipped is how many somebody else took, changed or removed meanwhile.
	Skipped int
}

// Requeue has the workers run the selected dead letters again, oldest first. A
// filter without a state selects dead ones; with Scheduled or Unknown it has
// those run without waiting for their time. An error ends it, with the result so
// far.
func Requeue(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, opts BulkOptions) (BulkResult, error) {
	filter, err := inState(filter, observer.Dead, observer.Scheduled, observer.Unknown)
	if err != nil {
		return BulkResult{}, fmt.Errorf("requeue: %w", err)
	}
	return bulk(ctx, store, filter, opts, func(key string) (observer.State, error) {
		state, err := store.RequeueDelivery(ctx, key, time.Now())
		failpoint.Hit(failpoint.Requeued)
		return state, err
	})
}

// Discard removes the selected dead letters for good. A filter without a state
// selects dead ones, and there is no other choice. An error ends it, with the
// result so far.
func Discard(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, opts BulkOptions) (BulkResult, error) {
	filter, err := inState(filter, observer.Dead)
	if err != nil {
		return BulkResult{}, fmt.Errorf("discard: %w", err)
	}
	return bulk(ctx, store, filter, opts, func(key string) (observer.State, error) {
		d, err := store.Delivery(ctx, key)
		switch {
		case err != nil:
			return "", err
		case d.State != observer.Dead:
			return "", observer.ErrBusy
		}
		return observer.Dead, store.RemoveDelivery(ctx, key)
	})
}

func inState(filter observer.DeliveryFilter, allowed ...observer.State) (observer.DeliveryFilter, error) {
	if filter.State == "" {
		filter.State = observer.Dead
	}
	if slices.Contains(allowed, filter.State) {
		return filter, nil
	}
	return filter, fmt.Errorf("deliveries that are %s cannot be selected for this, only those that are %q", filter.State, allowed)
}

func bulk(
	ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, opts BulkOptions,
	change func(key string) (observer.State, error),
) (BulkResult, error) {
	var keys []string
	err := each(ctx, store, filter, func(d *observer.Delivery) error {
		keys = append(keys, d.Key)
		return nil
	})
	result := BulkResult{Selected: len(keys)}
	if err != nil || opts.DryRun {
		return result, err
	}
	progress := func(int, int) {}
	if opts.Progress != nil {
		progress = opts.Progress
	}
	progress(0, len(keys))
	began := time.Now()
	for i, key := range keys {
		if err := pace(ctx, began, i, opts.Rate); err != nil {
			return result, err
		}
		if err := result.count(change(key)); err != nil {
			return result, fmt.Errorf("delivery %s: %w", key, err)
		}
		progress(i+1, len(keys))
	}
	return result, nil
}

// pace waits until the i-th change may be made.
func pace(ctx context.Context, began time.Time, i int, rate float64) error {
	if rate > 0 {
		backoff.Wait(ctx, nil, time.Until(began.Add(time.Duration(float64(i)/rate*float64(time.Second)))))
	}
	return ctx.Err()
}

func (r *BulkResult) count(state observer.State, err error) error {
	switch {
	case errors.Is(err, observer.ErrNotFound), errors.Is(err, observer.ErrBusy):
		r.Skipped++
		return nil
	case err != nil:
		return err
	case state == observer.Parked:
		r.Parked++
	}
	r.Changed++
	return nil
}

// each calls do with what filter selects, oldest first, a page at a time.
func each(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, do func(*observer.Delivery) error) error {
	left := filter.Limit
	for {
		filter.Limit = bulkPage
		if left > 0 {
			filter.Limit = min(left, bulkPage)
		}
		page, err := store.Deliveries(ctx, filter)
		if err != nil {
			return fmt.Errorf("list deliveries: %w", err)
		}
		for _, d := range page {
			if err := do(d); err != nil {
				return err
			}
		}
		if left -= len(page); len(page) < filter.Limit || left == 0 {
			return nil
		}
		filter.Offset += len(page)
	}
}

// Edit changes the request of a dead letter, and notes when. edit gets the
// request as it is, nil when it was never rendered, and gives the new one; nil
// has it rendered again by the next attempt. It may take its time: nobody else
// can run or change the dead letter meanwhile. [observer.ErrNotFound] when the
// delivery is not a dead letter, [observer.ErrBusy] when somebody else has it.
func Edit(
	ctx context.Context, store observer.DeliveryStore, key string,
	edit func(request json.RawMessage) (json.RawMessage, error),
) error {
	p := person(store, "edit", personLease, slog.New(slog.DiscardHandler))
	d, err := store.ClaimDelivery(ctx, key, p.owner, p.lease)
	if err != nil {
		return err
	}
	was := originOf(d)
	recordLost(d)
	running, stop := p.keep(ctx, key)
	changed, err := edited(d, edit)
	if lost := context.Cause(running); err == nil && lost != nil {
		err = lost
	}
	stop()
	if err == nil {
		d.Request, d.EditedAt = changed, time.Now()
	}
	was.restore(d)
	if err := errors.Join(err, p.settle(ctx, d, &was)); err != nil {
		return fmt.Errorf("edit delivery %s: %w", key, err)
	}
	return nil
}

func edited(d *observer.Delivery, edit func(json.RawMessage) (json.RawMessage, error)) (json.RawMessage, error) {
	switch {
	case d.ClaimedFrom != observer.Dead:
		return nil, fmt.Errorf("it is %s and no dead letter: %w", d.ClaimedFrom, observer.ErrNotFound)
	case d.Event == nil:
		return nil, errors.New("it is a log entry that is no event and has no request; repair it in the log")
	}
	changed, err := edit(append(json.RawMessage(nil), d.Request...))
	switch {
	case err != nil:
		return nil, err
	case len(changed) == 0:
		return nil, nil
	case !json.Valid(changed):
		return nil, errors.New("the new request is not JSON")
	}
	return changed, nil
}
