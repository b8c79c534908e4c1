package app

import (
	"cmp"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/topology"
)

const (
	// pruneInterval is the time between two prunings. A log is pruned in small
	// batches, so doing it often keeps each one short.
	pruneInterval = time.Minute
	// pruneBatch is how many deliveries are removed at once: few enough that
	// those who want to write meanwhile do not notice.
	pruneBatch = 1000
	// keepReceipts is how long a reconciler may be away: a receipt that is gone makes
	// it publish again what was handled.
	keepReceipts = 30 * 24 * time.Hour
	// leaseKeep is how long a lease is kept that is over. Every process leaves one
	// of its own. One that was cut off from the state store for longer begins anew.
	leaseKeep = 24 * time.Hour
)

// prune removes what is handled and older than the retention, from the stored
// deliveries and from each change log, until ctx ends. They go side by side: one
// that takes long, or hangs, must not hold up the others.
func (a *App) prune(ctx context.Context) error {
	var all sync.WaitGroup
	all.Go(func() {
		regularly(ctx, func() {
			if err := a.pruneDeliveries(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("finished deliveries could not be pruned; trying again later", "error", err)
			}
		})
	})
	all.Go(func() {
		regularly(ctx, func() {
			if err := a.pruneDedup(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("marks of handled deliveries could not be pruned; trying again later", "error", err)
			}
		})
	})
	all.Go(func() {
		regularly(ctx, func() {
			if err := a.pruneReceipts(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("old receipts could not be pruned; trying again later", "error", err)
			}
		})
	})
	all.Go(func() {
		regularly(ctx, func() {
			if err := a.pruneLeases(ctx); err != nil && ctx.Err() == nil {
				a.logger.Warn("leases that are over could not be pruned; trying again later", "error", err)
			}
		})
	})
	for _, db := range a.topology.Databases {
		all.Go(func() {
			regularly(ctx, func() {
				if err := a.pruneOne(ctx, db); err != nil && ctx.Err() == nil {
					a.logger.Warn("change log could not be pruned; trying again later", "source", db.Config.Name, "error", err)
				}
			})
		})
	}
	all.Wait()
	return nil
}

// regularly does something now and every pruneInterval until ctx ends.
func regularly(ctx context.Context, do func()) {
	for do(); backoff.Wait(ctx, nil, pruneInterval); {
		do()
	}
}

func (a *App) pruneOne(ctx context.Context, db topology.Database) error {
	if db.Config.Retention <= 0 {
		return nil
	}
	cp, err := a.topology.Store.LoadCheckpoint(ctx, a.topology.HandledName(db))
	if errors.Is(err, observer.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	deleted, err := db.Source.Prune(ctx, cp.Position, time.Now().Add(-db.Config.Retention))
	if deleted > 0 {
		a.logger.Info("change log pruned", "source", db.Config.Name, "rows", deleted)
	}
	return err
}

// pruneDeliveries asks the store also where everything is kept for ever: it
// looks after parked deliveries too. A part of it that fails, which the store
// says, does not end the rest.
func (a *App) pruneDeliveries(ctx context.Context) error {
	now := time.Now()
	r := observer.Retention{
		DoneBefore: before(now, a.opts.Config.JobQueue.Retention),
		DeadBefore: before(now, a.opts.Config.DeadLetters.Retention),
	}
	total, removed, failed := 0, 1, error(nil)
	for removed > 0 {
		var err error
		removed, err = a.topology.Store.PruneDeliveries(ctx, r, pruneBatch)
		total, failed = total+removed, cmp.Or(err, failed)
	}
	if total > 0 {
		a.logger.Info("finished deliveries pruned", "rows", total)
	}
	return failed
}

func (a *App) pruneReceipts(ctx context.Context) (err error) {
	for removed := 1; removed > 0 && err == nil; {
		removed, err = a.topology.Store.PruneReceipts(ctx, keepReceipts, pruneBatch)
	}
	return err
}

func (a *App) pruneDedup(ctx context.Context) (err error) {
	for removed := 1; removed > 0 && err == nil; {
		removed, err = a.topology.Store.PruneDedup(ctx, pruneBatch)
	}
	return err
}

func (a *App) pruneLeases(ctx context.Context) (err error) {
	for removed := 1; removed > 0 && err == nil; {
		removed, err = a.topology.Store.PruneLeases(ctx, leaseKeep, pruneBatch)
	}
	return err
}

// before is the time up to which a retention keeps nothing; zero when it keeps
// everything.
func before(now time.Time, retention time.Duration) time.Time {
	if retention <= 0 {
		return time.Time{}
	}
	return now.Add(-retention)
}
