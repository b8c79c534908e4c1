// Package reconcile finds what a transport lost. It compares what a change log
// holds with what the workers of a group say they have handled, and publishes
// again, under the same ids, what is missing. While nothing is lost it publishes
// nothing.
//
//	change log -> relay -> Verifier <- receipts <- relays of the workers
//	                          |
//	                          +-> Republish, what has no receipt and never will
//
// A [Verifier] is the handler of a relay of its own, which reads the change log
// beside the one that publishes it and under the same lease. Everything at or
// before the checkpoint of that relay is known to be handled.
//
// Without a receipt an event may wait: in the change log, because the bridge does
// not get to publish it, or in the stream, because the workers do not get to
// handle it. It is missing when neither is possible any more. That takes, in this
// order:
//
//  1. The bridge has published everything that was committed before the event was
//     read here.
//  2. After that the last message of every partition is noted: the barrier.
//  3. The checkpoints of the workers have passed the barrier, while the stream
//     lost nothing of it. If the stream began a new life, or ends before the
//     barrier now, a new one is noted: the rest of what was lost would never be
//     passed.
//  4. The receipts are read after the checkpoints. Workers store receipts before
//     the checkpoint that says the same, so whoever sees the checkpoint sees the
//     receipts.
//
// What is published again waits for its receipt by the same rule, so that a second
// loss is found as well.
package reconcile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Config says what is compared. Everything without a default is required.
type Config struct {
	// Group is the workers who handle the events, Database the origin of the events
	// in their receipts.
	Group, Database string
	// Receipts keeps what the group has handled. An event that is kept as a dead
	// letter in place of being published has a receipt from whoever keeps it.
	Receipts observer.ReceiptStore
	// Progress gives the positions of the stream and of the group.
	Progress func(ctx context.Context) (Progress, error)
	// Published reports whether everything that was committed before t is published.
	// False is the answer while that is not known.
	Published func(t time.Time) bool
	// Republish publishes events again, in this order and under their ids. nil says
	// that every one of them is in the stream, once more than before: a stream that
	// drops what it saw a moment ago must not drop these. It is called only while
	// the lease is held.
	Republish func(ctx context.Context, events []*observer.Event) error
	// Alert, unless nil, is told when events turn out to be missing: how many, and
	// the id of the first. It is called once for losses in a row, and must not block.
	Alert func(ctx context.Context, n int, first string)
	// Grace is how long an event goes without a receipt at least before it can be
	// missing; 30 s when zero. Half of it passes before the positions are asked for,
	// which costs something, half after the barrier, so that workers finish what they
	// had fetched when a stream was replaced. It doubles, up to an hour, whenever the
	// same events were published again.
	Grace time.Duration
	// Interval is how often receipts are looked for; 500 ms when zero.
	Interval time.Duration
	// Retention is for receipts of ids that the change log never shows, such as those
	// that others publish: they are removed when they are as old, and events that
	// were recorded after them are verified; 7 days when zero.
	Retention time.Duration
	// Retry is how to wait after an error of the store, the stream or Republish.
	Retry backoff.Policy
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

func (c Config) withDefaults() Config {
	c.Grace = cmp.Or(c.Grace, 30*time.Second)
	c.Interval = cmp.Or(c.Interval, 500*time.Millisecond)
	c.Retention = cmp.Or(c.Retention, 7*24*time.Hour)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("database", c.Database, "group", c.Group)
	return c
}

// Verifier is an [observer.BatchHandler] to which an event is handled when the
// group has handled it. Make one with [New]. The relay that runs it tells
// [Verifier.Saved] what its checkpoints say, and [Verifier.Watch] runs beside it.
type Verifier struct {
	cfg      Config
	receipts *receipts
	counters counters
	incident incident
}

// New returns a verifier that has verified nothing yet. It serves one relay.
func New(cfg Config) *Verifier {
	cfg = cfg.withDefaults()
	return &Verifier{cfg: cfg, receipts: newReceipts(cfg)}
}

// Handle implements [observer.Handler].
func (v *Verifier) Handle(ctx context.Context, e *observer.Event) error {
	return v.HandleBatch(ctx, []*observer.Event{e})
}

// HandleBatch blocks until every event has a receipt, and publishes again what is
// missing. Errors of the store and the stream are logged, and waited for. The
// error says that ctx ended, that the process wants to stop, or that the lease is
// lost; all of events are to come again then.
func (v *Verifier) HandleBatch(ctx context.Context, events []*observer.Event) error {
	b := newBatch(events, time.Now())
	v.counters.begin(b)
	defer v.counters.end()
	v.incident.look(true)
	defer v.incident.look(false)
	for failures := 0; ; {
		done, err := v.look(ctx, b)
		wait := v.cfg.Interval
		switch {
		case err == nil && done:
			v.finish(b, events)
			return nil
		case err == nil:
			failures = 0
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, observer.ErrFenced):
			return err
		default:
			failures++
			wait = max(wait, v.cfg.Retry.Delay(failures))
			v.cfg.Logger.Warn("events cannot be verified; trying again", "error", err, "failures", failures, "wait", wait)
		}
		if !backoff.Wait(ctx, observer.Drain(ctx), wait) {
			return fmt.Errorf("verify events of %s: %w", v.cfg.Database, context.Canceled)
		}
	}
}

// look looks once. done is true when no event lacks a receipt.
func (v *Verifier) look(ctx context.Context, b *batch) (done bool, err error) {
	var at Progress
	asked := b.asks(time.Now(), v.grace(b)) && v.cfg.Published(b.read)
	if asked {
		if at, err = v.cfg.Progress(ctx); err != nil {
			return false, fmt.Errorf("read the positions of %s: %w", v.cfg.Group, err)
		}
	}
	// Only what is read after the positions is known to be all that they say.
	if err := v.receipts.strikeOff(ctx, b); err != nil {
		return false, err
	}
	v.counters.waiting(b)
	if len(b.lacking) == 0 {
		return true, nil
	}
	if asked && b.passed(at, time.Now()) {
		return false, v.again(ctx, b)
	}
	return false, nil
}

// maxRounds is how often the same events are published again. With the default
// grace that takes about two hours.
const maxRounds = 8

// again publishes what b lacks, unless that was in vain too often: then nobody
// says what is handled, and to go on would have it handled without end.
func (v *Verifier) again(ctx context.Context, b *batch) error {
	if b.rounds < maxRounds {
		return v.republish(ctx, b)
	}
	if !b.told {
		b.told = true
		v.cfg.Logger.Error("events were published again and again, and no worker says that it handled them; they are not published any more, and nothing behind them is verified: "+
			"see that the workers run with reconcile = true and look at the same entities, databases and tenants as this bridge",
			"events", len(b.lacking), "times", b.rounds, "event_ids", idsOf(b.lacking[:min(len(b.lacking), namedEvents)]))
	}
	return nil
}

// grace is what is left of [Config.Grace] before and after the barrier.
func (v *Verifier) grace(b *batch) time.Duration {
	grace := v.cfg.Grace
	for range b.rounds {
		grace = min(2*grace, max(time.Hour, v.cfg.Grace))
	}
	return grace / 2
}

// republish publishes what b lacks, and begins to wait for it anew.
func (v *Verifier) republish(ctx context.Context, b *batch) error {
	// Invariant 5: who lost the lease publishes nothing.
	if err := observer.Fence(ctx); err != nil {
		return err
	}
	v.notice(ctx, b)
	if err := v.cfg.Republish(ctx, b.lacking); err != nil {
		b.anew(time.Now()) // some of them may be published: they are waited for first
		return fmt.Errorf("publish %d missing events again: %w", len(b.lacking), err)
	}
	v.incident.republished(len(b.lacking))
	v.counters.republished(len(b.lacking))
	b.again(time.Now())
	v.counters.waiting(b)
	return nil
}

// finish is called when every event of b is handled.
func (v *Verifier) finish(b *batch, events []*observer.Event) {
	v.counters.verified(len(events))
	v.settle(b)
	v.receipts.verified(events)
}

// Saved says that ids are in a saved checkpoint: their receipts are needed no
// more. What cannot be removed now is removed with the next.
func (v *Verifier) Saved(ctx context.Context, ids []string) {
	if err := v.receipts.saved(ctx, ids); err != nil {
		v.cfg.Logger.Debug("receipts cannot be removed yet", "error", err)
	}
}
