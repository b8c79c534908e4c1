package delivery

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// RedriveConfig says where and how dead letters are run again.
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

// Redrive runs one stored delivery now and returns it as it ended: Done and
// removed from the store, or kept with its new error. Of several callers at the
// same time one runs it and the others get [observer.ErrBusy].
func Redrive(ctx context.Context, cfg RedriveConfig, key string) (*observer.Delivery, error) {
	if cfg.Lease <= 0 {
		cfg.Lease = 30 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	owner := claimOwner(cfg.Owner)
	d, err := cfg.Store.ClaimDelivery(ctx, key, owner, cfg.Lease)
	if err != nil {
		return nil, err
	}
	p := process{
		store: cfg.Store, run: cfg.Run, owner: owner, lease: cfg.Lease, logger: cfg.Logger,
		patience: cfg.Lease, unsettled: &atomic.Int64{},
	}
	if err := p.finish(ctx, d); err != nil {
		return d, err
	}
	return d, nil
}
