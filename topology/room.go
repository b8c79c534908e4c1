package topology

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/reconcile"
)

const (
	// roomEvery is the time between two looks at how full the stream is.
	roomEvery = 2 * time.Second
	// roomKept is how many of the newest messages are never purged: those that a
	// bridge may find out by that they are published already.
	roomKept = 50_000
)

// keepRoom purges, while the stream is nearly full, what the workers have handled,
// until ctx ends. The stream keeps messages by their age, and with its default
// size would else be full after 10,000,000 of them, and hold back every bridge.
func (t *Topology) keepRoom(ctx context.Context) {
	failed := false
	for backoff.Wait(ctx, nil, roomEvery) {
		purged, err := t.makeRoom(ctx)
		switch {
		case err != nil && ctx.Err() == nil && !failed:
			t.logger.Warn("handled messages cannot be purged from a stream that is nearly full; trying again", "stream", t.stream.cfg.StreamName, "error", err)
		case purged > 0:
			t.logger.Info("handled messages purged from the stream", "stream", t.stream.cfg.StreamName, "up_to", purged)
		}
		failed = err != nil
	}
}

// makeRoom gives up to which sequence it purged, zero when it did not. Everything
// before it is handled in every partition.
func (t *Topology) makeRoom(ctx context.Context) (upTo uint64, err error) {
	ready := t.stream.ready.Load()
	if ready == nil {
		return 0, nil
	}
	state, err := ready.State(ctx)
	j := t.stream.cfg.JetStream
	if err != nil || !nearly(state.Msgs, j.MaxMsgs) && !nearly(state.Bytes, j.MaxBytes) {
		return 0, err
	}
	at, err := t.progress(ctx)
	if err != nil {
		return 0, fmt.Errorf("find out what is handled: %w", err)
	}
	kept := min(roomKept, uint64(j.MaxMsgs)/4) //nolint:gosec // positive, by the configuration
	if state.LastSeq <= kept || at.Life != strconv.FormatInt(state.Created.UnixNano(), 36) {
		return 0, nil
	}
	upTo = state.LastSeq - kept
	others, err := t.handledByOthers(ctx)
	if err != nil {
		return 0, fmt.Errorf("find out what other groups have handled: %w", err)
	}
	for _, p := range append(others, at.Partitions...) {
		upTo = min(upTo, p.Handled)
	}
	if upTo <= state.FirstSeq {
		return 0, nil
	}
	return upTo, ready.PurgeBefore(ctx, upTo)
}

// handledByOthers is where the other groups are that read the stream.
func (t *Topology) handledByOthers(ctx context.Context) (at []reconcile.Partition, err error) {
	names, err := t.neighbours.groups(ctx)
	for _, name := range names {
		if err == nil {
			var theirs reconcile.Progress
			theirs, err = t.progressOf(ctx, name)
			at = append(at, theirs.Partitions...)
		}
	}
	return at, err
}

// nearly reports whether four fifths are used up.
func nearly(used uint64, most int64) bool {
	return used >= uint64(most)/5*4 //nolint:gosec // positive, by the configuration
}
