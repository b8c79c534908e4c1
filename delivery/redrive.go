package delivery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
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
// left as it is. Of several callers in one lane at the same time the one whose
// delivery comes first runs it.
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
	if err := mayGo(ctx, cfg.Store, d, min(giveWay, cfg.Lease/3)); err != nil {
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

// giveWay is how long a redrive waits, within its lease, for a later one of its
// lane, which may be giving its claim back; giveWayPoll is how often it looks.
const (
	giveWay     = 2 * time.Second
	giveWayPoll = 50 * time.Millisecond
)

// mayGo gives an error that says what has to be out of the way before d, which
// is claimed: what is on its way in its lane, and what waits there before it.
//
// Of two people who claim in one lane at the same time each sees the other. The
// later one gives back at once and the earlier one waits for that, so that one of
// them goes. It waits instead of going: the later one may be on its way already.
func mayGo(ctx context.Context, store observer.DeliveryStore, d *observer.Delivery, patience time.Duration) error {
	for until := time.Now().Add(patience); ; {
		other, yields, err := inTheWay(ctx, store, d)
		if err != nil || other == nil {
			return err
		}
		if !yields || !time.Now().Before(until) || !backoff.Wait(ctx, nil, giveWayPoll) {
			return fmt.Errorf("%s is %s: %w", other.Key, other.State, ErrBlocked)
		}
	}
}

// inTheWay is what has to be out of the way before d, nil when nothing has to.
// yields is true when that is only later ones which a person has claimed.
func inTheWay(ctx context.Context, store observer.DeliveryStore, d *observer.Delivery) (other *observer.Delivery, yields bool, err error) {
	lane := d.Lane()
	if lane == "" {
		return nil, false, nil
	}
	if blocked, err := store.Blocked(ctx, lane, d.Event.ID); err != nil || !blocked {
		return nil, false, err
	}
	all, err := store.Deliveries(ctx, observer.DeliveryFilter{
		Observer: d.Observer, EntityType: d.Event.EntityType, EntityID: d.Event.EntityID,
	})
	if err != nil {
		return nil, false, err
	}
	before := true
	for _, o := range all {
		waits := o.State == observer.Parked || o.State == observer.Dead
		switch {
		case o.Key == d.Key:
			before = false
		case !holdsUp(o, d) || !before && waits:
		case before || o.State != observer.Running || o.ClaimedFrom != observer.Dead:
			return o, false, nil
		default:
			other = o
		}
	}
	return other, other != nil, nil
}

// holdsUp reports whether o blocks what is behind it in the lane of d. The other
// actions of an event do not wait for each other.
func holdsUp(o, d *observer.Delivery) bool {
	return o.Lane() == d.Lane() && o.Event.ID != d.Event.ID && o.Blocks()
}
