package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
)

// Pause stops sending to an endpoint until [Resume], for a person. Processes
// take notice within their poll interval; attempts that run are not stopped. An
// endpoint that is gone stays paused as that.
func Pause(ctx context.Context, store observer.DeliveryStore, name string) error {
	row, err := endpointRow(ctx, store, name)
	if err != nil {
		return err
	}
	if row.Pause == observer.PausedGone || row.Pause == observer.PausedByPerson {
		return nil
	}
	row.Name, row.Pause, row.PausedAt = name, observer.PausedByPerson, time.Now()
	return save(ctx, store, row)
}

// Resume ends the pause of an endpoint, whatever its reason, and forgets that it
// failed. What waited leaves with a ramp. [observer.ErrNotFound] when it is not
// paused.
func Resume(ctx context.Context, store observer.DeliveryStore, name string) error {
	row, err := endpointRow(ctx, store, name)
	switch {
	case err != nil:
		return err
	case row.Pause == observer.NotPaused:
		return fmt.Errorf("resume endpoint %s, which is not paused: %w", name, observer.ErrNotFound)
	}
	return save(ctx, store, observer.Endpoint{Name: name})
}

// endpointRow is the stored endpoint, the zero one when it is not stored.
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
	return observer.Endpoint{}, nil
}

func save(ctx context.Context, store observer.DeliveryStore, e observer.Endpoint) error {
	if err := store.SaveEndpoint(ctx, e); err != nil {
		return fmt.Errorf("store endpoint %s: %w", e.Name, err)
	}
	return nil
}
