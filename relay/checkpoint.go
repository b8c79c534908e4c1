package relay

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// lastSaveTimeout bounds the save at the end of Run, when the store may be away.
const lastSaveTimeout = 10 * time.Second

// markDirty asks for a save. Any number of requests before it becomes one.
func (r *Relay) markDirty() {
	select {
	case r.dirty <- struct{}{}:
	default:
	}
}

// keepCheckpoints saves the window's checkpoint whenever something finished, at
// most once per interval, until stop is closed.
func (r *Relay) keepCheckpoints(ctx context.Context, stop <-chan struct{}) {
	for {
		select {
		case <-r.dirty:
		case <-stop:
			return
		}
		for failures := 1; ; failures++ {
			err := r.save(ctx)
			if err == nil {
				break
			}
			if r.lost(err) {
				return
			}
			wait := r.cfg.Reopen.Delay(failures)
			r.cfg.Logger.Warn("checkpoint cannot be saved; trying again", "error", err, "failures", failures, "wait", wait)
			if !backoff.Wait(ctx, stop, wait) {
				return
			}
		}
		backoff.Wait(ctx, stop, r.cfg.CheckpointInterval)
	}
}

// saveLast saves what the handlers did until the end. Nothing saves it later, so
// a failure is not the last word while there is time.
func (r *Relay) saveLast(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastSaveTimeout)
	defer cancel()
	for failures := 1; ; failures++ {
		err := r.save(ctx)
		if err == nil || errors.Is(err, observer.ErrFenced) || !backoff.Wait(ctx, nil, r.cfg.Reopen.Delay(failures)) {
			return err
		}
	}
}

// save saves what is handled now, and tells of it.
func (r *Relay) save(ctx context.Context) error {
	saved := r.saved.take() // before the checkpoint, which has all of it then
	if err := r.saveCheckpoint(ctx, r.window.checkpoint()); err != nil {
		r.saved.giveBack(saved)
		return err
	}
	if len(saved) > 0 {
		r.cfg.Saved(ctx, saved)
	}
	return nil
}

// Invariant 5: saveCheckpoint stores nothing under the term of a lease that is
// lost.
func (r *Relay) saveCheckpoint(ctx context.Context, cp observer.Checkpoint) error {
	name := r.cfg.Source.Name()
	if r.cfg.Lease != nil {
		cp.Lease, cp.Term = r.cfg.Lease.Name(), r.cfg.Lease.Term()
	}
	// Whoever sees the checkpoint sees the receipts of what it says is handled.
	if err := r.receipts.tell(ctx, r.cfg.Receipts); err != nil {
		return fmt.Errorf("save receipts of %s: %w", name, err)
	}
	if err := r.cfg.Checkpoints.SaveCheckpoint(ctx, name, cp); err != nil {
		return fmt.Errorf("save checkpoint of %s: %w", name, err)
	}
	return nil
}
