package demo

import (
	"context"
	"errors"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// readState lists what the daemon left in its state store, by what it is for.
func readState(ctx context.Context, cfg *config.Config) (_ map[duty]*observer.Delivery, err error) {
	store, err := topology.OpenStore(ctx, cfg, true)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	list, err := store.Deliveries(ctx, observer.DeliveryFilter{})
	if err != nil {
		return nil, err
	}
	stored := make(map[duty]*observer.Delivery, len(list))
	for _, d := range list {
		if d.Event == nil {
			continue // a log entry that is no event: it stands for no delivery
		}
		what, err := dutyOf(d.Observer, d.Event)
		if err != nil {
			return nil, err
		}
		stored[what] = d
	}
	return stored, nil
}
