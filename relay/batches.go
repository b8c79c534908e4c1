package relay

import (
	"context"

	"github.com/fraiseql/observer"
)

// inBatches runs the one lane of a handler that takes many events at once. While
// one batch is handled the next is read.
func (r *Relay) inBatches(handler observer.BatchHandler) func(ctx context.Context, l *lane) {
	return func(ctx context.Context, l *lane) {
		draining := observer.Drain(ctx)
		var waiting []item
		for {
			if waiting = l.take(waiting); len(waiting) == 0 {
				return
			}
			for rest := waiting; len(rest) > 0; {
				select {
				case <-draining:
					rest = nil // read again after the restart
					continue
				default:
				}
				n := r.batchOf(rest)
				r.handleBatch(ctx, handler, rest[:n])
				rest = rest[n:]
			}
			clear(waiting) // its events need not stay
		}
	}
}

// batchOf is how many of items go together: events, up to the size of a batch, or
// one of anything else.
func (r *Relay) batchOf(items []item) int {
	n := 0
	for n < len(items) && n < r.cfg.Batch && items[n].msg.Event != nil {
		n++
	}
	return max(n, 1)
}

// handleBatch hands items over until they are handled, or the process stops first.
// What is handled of them is finished at once: it does not wait for the rest.
func (r *Relay) handleBatch(ctx context.Context, handler observer.BatchHandler, items []item) {
	if items[0].msg.Event == nil {
		if r.handle(ctx, &items[0].msg) {
			r.finish(&items[0])
		}
		return
	}
	events := make([]*observer.Event, len(items))
	for i := range items {
		events[i] = items[i].msg.Event
	}
	for len(items) > 0 {
		n := 0
		handled := r.insist(ctx, &items[0].msg, func() error {
			err := handler.HandleBatch(ctx, events)
			if n = len(events); err != nil {
				n = min(n, observer.PartlyOf(err))
			}
			if n > 0 {
				return nil // the next call is about the rest
			}
			return err
		})
		if !handled {
			return
		}
		for i := range items[:n] {
			r.finish(&items[i])
		}
		items, events = items[n:], events[n:]
	}
}
