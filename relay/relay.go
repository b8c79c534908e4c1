// Package relay copies events from a [observer.Source] to an
// [observer.Handler] the way io.Copy copies bytes: it owns order,
// back-pressure, checkpoints and reopening, so that no source and no handler
// has to.
//
//	Source -> window (in flight, bounded) -> lane (entity) -> Handler
//	             |                                              |
//	         checkpoint <------------- watermark <------------ done
//
// Events of one entity share a lane and are handled in the order they were
// read; lanes run in parallel. The window bounds what is read and not yet
// settled. Its lower edge is the watermark: the checkpoint stores it together
// with the ids of what is handled above it. A stream that fails is opened again at
// the watermark, like after a restart, but that what is in flight is known, too.
package relay

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Config says what a relay copies and within which bounds.
type Config struct {
	// Source is read; its name is the checkpoint's name. Required.
	Source observer.Source
	// Handler takes the events. Required.
	Handler observer.Handler
	// Malformed takes the entries that are not events, under the same rule as
	// Handler: nil means durably kept. Required.
	Malformed func(ctx context.Context, m *observer.Malformed) error
	// Checkpoints keeps the progress. Required.
	Checkpoints observer.CheckpointStore
	// Lanes is how many events are handled at a time; 50 when zero.
	Lanes int
	// InFlight bounds how many events are read and not yet settled; 1000 when
	// zero. It is also about the most that a checkpoint remembers above its position.
	InFlight int
	// CheckpointInterval is the least time between two saves; 20 ms when zero.
	// A killed process repeats what was in flight and what finished since the
	// last save.
	CheckpointInterval time.Duration
	// DrainTimeout is how long Run lets handlers finish after its context
	// ends, before it cancels them; 30 s when zero.
	DrainTimeout time.Duration
	// Reopen is how to wait after a source error.
	Reopen backoff.Policy
	// Batch is how many events a [observer.BatchHandler] is given at a time at
	// most; 500 when zero.
	Batch int
	// Lease is what allows this relay to run; nil where nobody else would.
	Lease Lease
	// Receipts, unless nil, is told what is handled before a checkpoint says so. An
	// error keeps the checkpoint from being saved, and the same receipts come
	// again.
	Receipts func(ctx context.Context, handled []Receipt) error
	// Saved, unless nil, is told what is handled after a checkpoint says so. What a
	// killed process had not told of is not told again.
	Saved func(ctx context.Context, handled []Receipt)
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// Lease is the right to read a source, which somebody else may take over.
type Lease interface {
	// Name and Term are those under which checkpoints are saved.
	Name() string
	Term() int64
	// Await gives nil while the lease is held, blocks while that is not known, and
	// gives an error that matches [observer.ErrFenced] when it is lost.
	Await(ctx context.Context) error
}

// Receipt says of one entry of the log that it is handled.
type Receipt struct {
	// ID is that of the entry, Origin the database that recorded it.
	ID, Origin string
}

func (c Config) withDefaults() Config {
	if c.Lanes <= 0 {
		c.Lanes = 50
	}
	if c.InFlight <= 0 {
		c.InFlight = 1000
	}
	if c.CheckpointInterval <= 0 {
		c.CheckpointInterval = 20 * time.Millisecond
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Batch <= 0 {
		c.Batch = 500
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	c.Logger = c.Logger.With("source", c.Source.Name())
	return c
}

// Relay is one copy loop. Make one with [New] and call Run once.
type Relay struct {
	cfg    Config
	window *window
	lanes  []*lane
	seed   maphash.Seed
	places chan struct{} // one token per message in the window
	dirty  chan struct{} // something finished since the last save
	// receipts are those of entries that finished and were not told of.
	receipts receipts
	// saved are those of entries that finished and are in no saved checkpoint yet.
	saved receipts
	// fence ends the reading because the lease is lost.
	fence context.CancelCauseFunc
	// stalled is how long the reader waits for a place before it says so.
	stalled time.Duration
}

// New returns a relay. A missing required field is an error of [Relay.Run].
func New(cfg Config) *Relay { return &Relay{cfg: cfg, stalled: 10 * time.Second} }

// Run copies until ctx ends, then drains: it reads nothing more, lets the
// handlers that have begun finish within DrainTimeout, saves the checkpoint and
// returns nil. Source, handler and store failures are retried, logged and never
// returned; an error means that the relay could not start, that the last
// checkpoint could not be saved and the next start repeats what it would have
// held, or, when it matches [observer.ErrFenced], that somebody else reads this
// source now. When Run returns, nothing it started is running.
func (r *Relay) Run(ctx context.Context) error {
	if r.cfg.Source == nil || r.cfg.Handler == nil || r.cfg.Malformed == nil || r.cfg.Checkpoints == nil {
		return errors.New("relay: Source, Handler, Malformed and Checkpoints are required")
	}
	r.cfg = r.cfg.withDefaults()
	cp, err := r.load(ctx)
	if ctx.Err() != nil {
		return nil // asked to stop before anything was read
	}
	if err != nil {
		return err
	}
	r.window = newWindow(cp)
	reading, fence := context.WithCancelCause(ctx)
	defer fence(nil)
	r.fence = fence
	r.places = make(chan struct{}, r.cfg.InFlight)
	r.dirty = make(chan struct{}, 1)

	work, cancelWork := context.WithCancel(r.withFence(observer.WithDrain(context.WithoutCancel(ctx), reading.Done()), reading))
	defer cancelWork()
	lanes := r.startLanes(work)
	stop := make(chan struct{})
	var saver sync.WaitGroup
	saver.Go(func() { r.keepCheckpoints(context.WithoutCancel(ctx), stop) })
	r.read(reading)
	r.drain(lanes, cancelWork)
	close(stop)
	saver.Wait()
	if lost := context.Cause(reading); errors.Is(lost, observer.ErrFenced) {
		return lost
	}
	return r.saveLast(ctx)
}

// load reads the checkpoint, waiting for the store when it is away.
func (r *Relay) load(ctx context.Context) (observer.Checkpoint, error) {
	for failures := 1; ; failures++ {
		cp, err := r.cfg.Checkpoints.LoadCheckpoint(ctx, r.cfg.Source.Name())
		if err == nil || errors.Is(err, observer.ErrNotFound) {
			return cp, nil
		}
		r.cfg.Logger.Warn("checkpoint cannot be read; trying again", "error", err)
		if !backoff.Wait(ctx, nil, r.cfg.Reopen.Delay(failures)) {
			return cp, fmt.Errorf("load checkpoint of %s: %w", r.cfg.Source.Name(), err)
		}
	}
}

// Invariant 7: drain waits for the lanes, first kindly, then by cancelling their work.
func (r *Relay) drain(lanes *sync.WaitGroup, cancelWork context.CancelFunc) {
	for _, l := range r.lanes {
		l.close()
	}
	idle := make(chan struct{})
	go func() { lanes.Wait(); close(idle) }()
	timer := time.NewTimer(r.cfg.DrainTimeout)
	defer timer.Stop()
	select {
	case <-idle:
		return
	case <-timer.C:
	}
	id, size := r.window.oldest()
	r.cfg.Logger.Warn("shutdown timeout reached; cancelling what still runs",
		"in_flight", size, "oldest_event_id", id, "timeout", r.cfg.DrainTimeout)
	cancelWork()
	<-idle
}
