package app

import (
	"context"
	"errors"
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
)

// prune removes what is handled and older than the retention, from the change
// logs and from the stored deliveries, until ctx ends.
func (a *App) prune(ctx context.Context) error {
	for {
		for _, db := range a.topology.Databases {
			if err := a.pruneOne(ctx, db); err != nil && ctx.Err() == nil {
				a.logger.Warn("change log could not be pruned; trying again later", "source", db.Config.Name, "error", err)
			}
		}
		if err := a.pruneDeliveries(ctx); err != nil && ctx.Err() == nil {
			a.logger.Warn("finished deliveries could not be pruned; trying again later", "error", err)
		}
		if !backoff.Wait(ctx, nil, pruneInterval) {
			return nil
		}
	}
}

func (a *App) pruneOne(ctx context.Context, db topology.Database) error {
	if db.Config.Retention <= 0 {
		return nil
	}
	cp, err := a.topology.Store.LoadCheckpoint(ctx, db.Config.Name)
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
// looks after parked deliveries too.
func (a *App) pruneDeliveries(ctx context.Context) error {
	now := time.Now()
	r := observer.Retention{
		DoneBefore: before(now, a.opts.Config.JobQueue.Retention),
		DeadBefore: before(now, a.opts.Config.DeadLetters.Retention),
	}
	total, removed, err := 0, 1, error(nil)
	for removed > 0 && err == nil {
		removed, err = a.topology.Store.PruneDeliveries(ctx, r, pruneBatch)
		total += removed
	}
	if total > 0 {
		a.logger.Info("finished deliveries pruned", "rows", total)
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
