package relay

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// read opens the source and reads it until ctx ends. Opening again from the
// checkpoint is the one answer to every source error.
func (r *Relay) read(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		n, err := r.readStream(ctx)
		if ctx.Err() != nil {
			return
		}
		if n > 0 {
			failures = 0
		}
		failures++
		wait := r.cfg.Reopen.Delay(failures)
		r.cfg.Logger.Warn("source failed; opening it again", "error", err, "failures", failures, "wait", wait)
		backoff.Wait(ctx, nil, wait)
	}
}

// readStream reads one stream until it fails and returns how many messages
// came.
func (r *Relay) readStream(ctx context.Context) (n int, err error) {
	from, settled := r.window.reopen()
	r.givePlaces(settled)
	stream, err := r.cfg.Source.Open(ctx, from)
	if err != nil {
		return 0, err
	}
	defer func() {
		if cerr := stream.Close(context.WithoutCancel(ctx)); cerr != nil {
			r.cfg.Logger.Debug("source stream did not close cleanly", "error", cerr)
		}
	}()
	for {
		// The place is taken before reading: a full window reads nothing.
		if !r.takePlace(ctx) {
			return n, ctx.Err()
		}
		msg, err := stream.Next(ctx)
		if err != nil {
			r.givePlaces(1)
			return n, err
		}
		n++
		r.dispatch(msg)
	}
}

func (r *Relay) dispatch(msg observer.Message) {
	entry, fresh, settled := r.window.add(msg.ID(), msg.Position)
	it := item{entry: entry, msg: msg}
	switch {
	case !fresh:
		r.givePlaces(settled)
		r.markDirty()
	case msg.Event == nil && msg.Malformed == nil: // passed over
		r.finish(&it)
	default:
		r.lanes[r.laneOf(&msg)].add(it)
	}
}

// takePlace waits for room in the window. Waiting long is reported once: it
// means that the oldest event keeps everything behind it from settling.
func (r *Relay) takePlace(ctx context.Context) bool {
	select {
	case r.places <- struct{}{}:
		return true
	default:
	}
	timer := time.NewTimer(r.stalled)
	defer timer.Stop()
	for {
		select {
		case r.places <- struct{}{}:
			return true
		case <-timer.C:
			id, size := r.window.oldest()
			r.cfg.Logger.Warn("intake waits for the oldest event to finish", "in_flight", size, "oldest_event_id", id)
		case <-ctx.Done():
			return false
		}
	}
}

func (r *Relay) givePlaces(n int) {
	for range n {
		<-r.places
	}
}

// Handled is the position up to which everything is handled. It is "" before
// anything is, from the beginning of the log. It may be called concurrently with
// Run, once that has called the handler.
func (r *Relay) Handled() observer.Position { return r.window.handled() }

// Read is a position that covers everything that is in flight, in general that of
// the newest message that was read. known is false while there is none: a stream
// that was opened again has given something new and not yet all that was in flight
// before. What covers less may follow, when that is handled first. It may be called
// as [Relay.Handled] may.
func (r *Relay) Read() (at observer.Position, known bool) { return r.window.read() }
