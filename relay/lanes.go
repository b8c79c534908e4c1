package relay

import (
	"context"
	"errors"
	"hash/maphash"
	"sync"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// item is a message on its way to the handler.
type item struct {
	entry *entry
	msg   observer.Message
}

type laneKey struct{ entityType, entityID string }

// startLanes starts the goroutines that call the handler.
func (r *Relay) startLanes(ctx context.Context) *sync.WaitGroup {
	r.seed = maphash.MakeSeed()
	run, count := r.runLane, r.cfg.Lanes
	if batches, ok := r.cfg.Handler.(observer.BatchHandler); ok {
		run, count = r.inBatches(batches), 1 // the order of the log is that of every entity
	}
	r.lanes = make([]*lane, count)
	var running sync.WaitGroup
	for i := range r.lanes {
		r.lanes[i] = newLane()
		running.Go(func() { run(ctx, r.lanes[i]) })
	}
	return &running
}

// laneOf maps an entity to its lane. Invariant 4: one entity, one lane.
func (r *Relay) laneOf(msg *observer.Message) int {
	var key laneKey
	if msg.Malformed != nil {
		key = laneKey{msg.Malformed.EntityType, msg.Malformed.EntityID}
	} else {
		key = laneKey{msg.Event.EntityType, msg.Event.EntityID}
	}
	return int(maphash.Comparable(r.seed, key) % uint64(len(r.lanes))) //nolint:gosec // below len(r.lanes)
}

// runLane handles what it is given, one at a time. While draining it starts
// nothing new: what it leaves was not handled and is read again after the
// restart.
func (r *Relay) runLane(ctx context.Context, l *lane) {
	draining := observer.Drain(ctx)
	var batch []item
	for {
		if batch = l.take(batch); len(batch) == 0 {
			return
		}
		for i := range batch {
			select {
			case <-draining:
				continue
			default:
			}
			if r.handle(ctx, &batch[i].msg) {
				r.finish(&batch[i])
			}
			batch[i] = item{} // its event need not stay until the last of the batch
		}
	}
}

// finish notes that an item is handled. Its receipt is there before a checkpoint
// can say so, and counts as saved only with one that does.
func (r *Relay) finish(it *item) {
	if r.cfg.Receipts != nil {
		r.receipts.add(&it.msg)
	}
	r.givePlaces(r.window.finish(it.entry))
	if r.cfg.Saved != nil {
		r.saved.add(&it.msg)
	}
	r.markDirty()
}

// handle hands a message over until that succeeds.
func (r *Relay) handle(ctx context.Context, msg *observer.Message) bool {
	return r.insist(ctx, msg, func() error {
		if msg.Malformed != nil {
			return r.cfg.Malformed(ctx, msg.Malformed)
		}
		return r.cfg.Handler.Handle(ctx, msg.Event)
	})
}

// insist makes a call until it succeeds. It returns false when the process stops
// first, or the lease is lost. Skipping is not an option: what the handler can
// neither do nor record elsewhere would be lost. first is the oldest of what is
// handed over.
func (r *Relay) insist(ctx context.Context, first *observer.Message, call func() error) bool {
	for failures := 1; ; failures++ {
		err := observer.Fence(ctx)
		if err == nil {
			err = call()
		}
		if err == nil {
			return true
		}
		if ctx.Err() != nil || r.lost(err) || stopped(ctx, err) {
			return false
		}
		wait := r.cfg.Reopen.Delay(failures)
		r.cfg.Logger.Error("event could not be handled or recorded; trying again",
			"event_id", first.ID(), "error", err, "failures", failures, "wait", wait)
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return false
		}
	}
}

// stopped reports whether err says that a handler waits no longer, because the
// process wants to stop.
func stopped(ctx context.Context, err error) bool {
	select {
	case <-observer.Drain(ctx):
		return errors.Is(err, context.Canceled)
	default:
		return false
	}
}
