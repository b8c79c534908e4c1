// Package app is the whole daemon as a value: [New] wires it from a
// configuration, [App.Run] runs it until its context ends. It is what the
// command line runs and what a Go program embeds.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/topology"
)

// Options are what a daemon is made of.
type Options struct {
	// Config is a valid configuration. Required.
	Config *config.Config
	// Load reads the configuration again for a reload; nil means that it
	// cannot be reloaded.
	Load func() (*config.Config, error)
	// Build wires the parts; topology.Build when nil, which takes any
	// configuration.
	Build func(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*topology.Topology, error)
	// WorkerOnly runs nothing but the worker of stored deliveries: no change log
	// is read, and no observed database is connected to. Any number of such
	// processes, and one daemon, share a state. What is old is removed by the
	// daemon.
	WorkerOnly bool
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// App is one daemon. Make one with [New] and call Run once.
type App struct {
	opts     Options
	topology *topology.Topology
	lock     lock
	logger   *slog.Logger

	mu      sync.Mutex // one reload at a time
	current *config.Config
}

// New wires a daemon and opens its state. It fails when another daemon runs on
// the same state, unless it is to be a worker only. Call [App.Close] when Run is
// not called.
func New(ctx context.Context, opts Options) (*App, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Build == nil {
		opts.Build = topology.Build
	}
	locked, err := lockFor(ctx, opts)
	if err != nil {
		return nil, err
	}
	t, err := opts.Build(ctx, opts.Config, opts.Logger)
	if err != nil {
		return nil, errors.Join(err, locked.release())
	}
	return &App{
		opts: opts, topology: t, lock: locked, logger: opts.Logger,
		current: opts.Config,
	}, nil
}

func lockFor(ctx context.Context, opts Options) (lock, error) {
	if opts.WorkerOnly {
		return unlocked{}, nil
	}
	return acquire(ctx, opts.Config.State, opts.Logger)
}

// Run runs the daemon until ctx ends, drains it, and releases what [New]
// opened. When it returns, nothing it started is running.
func (a *App) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, a.Close()) }()
	if err := a.begin(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop while starting
		}
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	parts := a.parts()
	failed := make(chan error, len(parts))
	for _, part := range parts {
		go func() {
			// One part that cannot go on stops the others: half a daemon would
			// look healthy and lose time silently.
			defer cancel()
			failed <- part(ctx)
		}()
	}
	a.announce()
	var errs []error
	for range parts {
		errs = append(errs, <-failed)
	}
	a.logger.LogAttrs(ctx, slog.LevelInfo, "stopped", summary(a.Counts())...)
	return errors.Join(errs...)
}

// summary is what the last line says of a run. What may be turned off is in it
// where there was any.
func summary(c middleware.Counts) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int64("done", c.Done), slog.Int64("scheduled", c.Scheduled), slog.Int64("dead", c.Dead),
		slog.Int64("dropped", c.Dropped), slog.Int64("unrecorded", c.Unrecorded),
	}
	for _, some := range []slog.Attr{
		slog.Int64("duplicates_detected", c.DedupDetected), slog.Int64("duplicates_skipped", c.DedupSkipped),
		slog.Int64("claims_answered_by_state_store", c.DedupBypassed), slog.Int64("handled_without_claim", c.DedupOpen),
		slog.Int64("cache_hits", c.Cache.Hits), slog.Int64("cache_misses", c.Cache.Misses), slog.Int64("cache_failures", c.Cache.Failures),
	} {
		if some.Value.Int64() != 0 {
			attrs = append(attrs, some)
		}
	}
	return attrs
}

// announce says what runs from now on.
func (a *App) announce() {
	observers, state := len(a.opts.Config.Observers), a.opts.Config.State.Place()
	if a.opts.WorkerOnly {
		a.logger.Info("running the worker only", "observers", observers, "state", state)
		return
	}
	a.logger.Info("running", "databases", len(a.topology.Databases), "observers", observers, "state", state)
}

// parts are what runs side by side.
func (a *App) parts() []func(context.Context) error {
	if a.opts.WorkerOnly {
		return []func(context.Context) error{a.topology.Worker.Run, a.watch}
	}
	keep := func(ctx context.Context) error { return a.lock.keep(ctx, a.topology.Gate) }
	parts := []func(context.Context) error{keep, a.topology.Worker.Run, a.prune, a.watch}
	for _, db := range a.topology.Databases {
		// Invariant 7: what a relay still handles may need the worker.
		detach := a.topology.Worker.Attach()
		parts = append(parts, func(ctx context.Context) error {
			defer detach()
			return db.Relay.Run(ctx)
		})
	}
	return parts
}

// begin reads every change log once, so that a daemon that could read nothing
// says so at its start and does not go on trying; and decides where each log is
// read from. One that reads none has nothing to begin with.
func (a *App) begin(ctx context.Context) error {
	if a.opts.WorkerOnly {
		return nil
	}
	for _, db := range a.topology.Databases {
		if _, err := db.Source.Head(ctx); err != nil {
			return fmt.Errorf("database %s: %w", db.Config.Name, err)
		}
		a.warnOfDrift(ctx, db)
		a.warnOfJournal(ctx, db)
	}
	return a.topology.Begin(ctx)
}

// Counts says how deliveries ended so far.
func (a *App) Counts() middleware.Counts { return a.topology.Counters.Read() }

// Close releases what [New] opened. Run calls it.
func (a *App) Close() error {
	return errors.Join(a.topology.Close(), a.lock.release())
}
