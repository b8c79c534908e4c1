package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// ErrBlocked is given when another delivery of the same entity and observer has
// to be out of the way first.
var ErrBlocked = errors.New("another delivery of the same entity and observer comes first")

// RedriveConfig says where and how stored deliveries are run by a person.
type RedriveConfig struct {
	Store observer.DeliveryStore
	Run   Run
	// Owner names this process in leases, for people.
	Owner string
	// Lease is how long a crashed redrive keeps others away; 30 s when zero.
	Lease time.Duration
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// Redrive runs one stored delivery now, in whichever unfinished state or dead,
// and returns it as it ended; it is stored so. Of several callers at the same
// time one runs it and the others get [observer.ErrBusy]. [ErrBlocked] when
// another one of its lane is on its way or has to go first; the delivery is then
// left as it is.
func Redrive(ctx context.Context, cfg RedriveConfig, key string) (*observer.Delivery, error) {
	if cfg.Lease <= 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	p := person(cfg.Store, cfg.Owner, cfg.Lease, cfg.Logger)
	d, err := cfg.Store.ClaimDelivery(ctx, key, p.owner, p.lease)
	if err != nil {
		return nil, err
	}
	if err := mayGo(ctx, cfg.Store, d); err != nil {
		p.giveBack(ctx, d)
		return nil, fmt.Errorf("redrive %s: %w", key, err)
	}
	return d, p.finish(ctx, d, func(ctx context.Context, d *observer.Delivery) error {
		if d.ClaimedFrom == observer.Dead {
			d.Redrives++
		}
		return cfg.Run(ctx, d)
	})
}

// person is a claim that somebody waits for.
func person(store observer.DeliveryStore, owner string, lease time.Duration, logger *slog.Logger) process {
	return process{
		store: store, owner: claimOwner(owner), lease: lease, logger: logger,
		patience: lease, unsettled: &atomic.Int64{},
	}
}

// mayGo gives an error that says what has to be out of the way before d, which
// is claimed: what is on its way in its lane, and what waits there before it.
func mayGo(ctx context.Context, store observer.DeliveryStore, d *observer.Delivery) error {
	lane := d.Lane()
	if lane == "" {
		return nil
	}
	if blocked, err := store.Blocked(ctx, lane, d.Event.ID); err != nil || !blocked {
		return err
	}
	all, err := store.Deliveries(ctx, observer.DeliveryFilter{
		Observer: d.Observer, EntityType: d.Event.EntityType, EntityID: d.Event.EntityID,
	})
	if err != nil {
		return err
	}
	before := true
	for _, other := range all {
		if other.Key == d.Key {
			before = false
			continue
		}
		waits := other.State == observer.Parked || other.State == observer.Dead
		if other.Lane() == lane && other.Event.ID != d.Event.ID && other.Blocks() && (before || !waits) {
			return fmt.Errorf("%s is %s: %w", other.Key, other.State, ErrBlocked)
		}
	}
	return nil
}
