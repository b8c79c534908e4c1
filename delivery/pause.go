package delivery

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
)

// Pause stops sending to an endpoint until [Resume], for a person. Processes
// take notice within their poll interval; attempts that run are not stopped. An
// endpoint that is gone stays paused as that.
func Pause(ctx context.Context, store observer.DeliveryStore, name string) error {
	return change(ctx, store, name, func(row *observer.Endpoint) (bool, error) {
		if row.Pause == observer.PausedGone || row.Pause == observer.PausedByPerson {
			return false, nil
		}
		row.Pause, row.PausedAt = observer.PausedByPerson, time.Now()
		return true, nil
	})
}

// Resume ends the pause of an endpoint, whatever its reason, and forgets that it
// failed. What waited leaves with a ramp. [observer.ErrNotFound] when it is not
// paused.
func Resume(ctx context.Context, store observer.DeliveryStore, name string) error {
	return change(ctx, store, name, func(row *observer.Endpoint) (bool, error) {
		if row.Pause == observer.NotPaused {
			return false, fmt.Errorf("resume endpoint %s, which is not paused: %w", name, observer.ErrNotFound)
		}
		*row = observer.Endpoint{Name: name, UpdatedAt: row.UpdatedAt}
		return true, nil
	})
}

// changeTries is how often a row is read anew that others have changed since it
// was read. They do so when an endpoint begins to fail or to work.
const changeTries = 10

// change stores what edit makes of the row of an endpoint, unless that says that
// there is nothing to store.
func change(ctx context.Context, store observer.DeliveryStore, name string, edit func(row *observer.Endpoint) (bool, error)) error {
	for range changeTries {
		row, err := endpointRow(ctx, store, name)
		if err != nil {
			return err
		}
		changed, err := edit(&row)
		if err != nil || !changed {
			return err
		}
		if err := store.SaveEndpoint(ctx, row); err == nil {
			return nil
		} else if !errors.Is(err, observer.ErrBusy) {
			return fmt.Errorf("store endpoint %s: %w", name, err)
		}
	}
	return fmt.Errorf("store endpoint %s: others change it all the time: %w", name, observer.ErrBusy)
}

// endpointRow is the stored endpoint, one that works when it is not stored.
func endpointRow(ctx context.Context, store observer.DeliveryStore, name string) (observer.Endpoint, error) {
	all, err := store.Endpoints(ctx)
	if err != nil {
		return observer.Endpoint{}, fmt.Errorf("read the endpoints: %w", err)
	}
	for _, row := range all {
		if row.Name == name {
			return row, nil
		}
	}
	return observer.Endpoint{Name: name}, nil
}
