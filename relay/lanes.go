package relay

import (
	"context"
	"hash/maphash"
	"sync"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// item is a message on its way to the handler.
type item struct {
	seq uint64
	msg observer.Message
}

type laneKey struct{ entityType, entityID string }

// startLanes starts the goroutines that call the handler.
func (r *Relay) startLanes(ctx context.Context) *sync.WaitGroup {
	r.seed = maphash.MakeSeed()
	r.lanes = make([]*lane, r.cfg.Lanes)
	var running sync.WaitGroup
	for i := range r.lanes {
		r.lanes[i] = newLane()
		running.Go(func() { r.runLane(ctx, r.lanes[i]) })
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
			if r.handle(ctx, batch[i].msg) {
				r.givePlaces(r.window.finish(batch[i].seq))
				r.markDirty()
			}
			batch[i] = item{} // its event need not stay until the last of the batch
		}
	}
}

// handle calls the handler until it succeeds. It returns false when the process
// stops first. Skipping is not an option: an event that the handler can neither
// do nor record elsewhere would be lost.
func (r *Relay) handle(ctx context.Context, msg observer.Message) bool {
	for failures := 1; ; failures++ {
		err := r.call(ctx, msg)
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		wait := r.cfg.Reopen.Delay(failures)
		r.cfg.Logger.Error("event could not be handled or recorded; trying again",
			"event_id", msg.ID(), "error", err, "failures", failures, "wait", wait)
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return false
		}
	}
}

func (r *Relay) call(ctx context.Context, msg observer.Message) error {
	if msg.Malformed != nil {
		return r.cfg.Malformed(ctx, msg.Malformed)
	}
	return r.cfg.Handler.Handle(ctx, msg.Event)
}
