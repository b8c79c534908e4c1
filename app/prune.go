package app

import (
	"context"
	"errors"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/topology"
)

// pruneInterval is the time between two prunings. A log is pruned in small
// batches, so doing it often keeps each one short.
const pruneInterval = time.Minute

// prune removes from the change logs what is handled and older than the
// retention, until ctx ends.
func (a *App) prune(ctx context.Context) error {
	for {
		for _, db := range a.topology.Databases {
			if err := a.pruneOne(ctx, db); err != nil && ctx.Err() == nil {
				a.logger.Warn("change log could not be pruned; trying again later", "source", db.Config.Name, "error", err)
			}
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
