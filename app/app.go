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
	"time"

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
	// processes and of daemons share a state. What is old is removed by the
	// daemons.
	WorkerOnly bool
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

// App is one daemon. Make one with [New] and call Run once.
type App struct {
	opts     Options
	topology *topology.Topology
	logger   *slog.Logger

	mu      sync.Mutex // one reload at a time
	current *config.Config
}

// New wires a daemon and opens its state. Call [App.Close] when Run is not called.
func New(ctx context.Context, opts Options) (*App, error) {
	if opts.Logger == nil {
		opts.Logger = slog.Default()
	}
	if opts.Build == nil {
		opts.Build = topology.Build
	}
	if err := checkPlace(opts.Config.State); err != nil {
		return nil, err
	}
	t, err := opts.Build(ctx, opts.Config, opts.Logger)
	if err != nil {
		return nil, err
	}
	return &App{opts: opts, topology: t, logger: opts.Logger, current: opts.Config}, nil
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
	a.logger.LogAttrs(ctx, slog.LevelInfo, "stopped", summary(a.Counts(), a.topology.Republished())...)
	return errors.Join(errs...)
}

// summary is what the last line says of a run. What may be turned off is in it
// where there was any.
func summary(c middleware.Counts, republished uint64) []slog.Attr {
	attrs := []slog.Attr{
		slog.Int64("done", c.Done), slog.Int64("scheduled", c.Scheduled), slog.Int64("dead", c.Dead),
		slog.Int64("dropped", c.Dropped), slog.Int64("unrecorded", c.Unrecorded),
	}
	for _, some := range []slog.Attr{
		slog.Int64("duplicates_detected", c.DedupDetected), slog.Int64("duplicates_skipped", c.DedupSkipped),
		slog.Int64("claims_answered_by_state_store", c.DedupBypassed), slog.Int64("handled_without_claim", c.DedupOpen),
		slog.Int64("cache_hits", c.Cache.Hits), slog.Int64("cache_misses", c.Cache.Misses), slog.Int64("cache_failures", c.Cache.Failures),
		slog.Int64("republished", int64(republished)), //nolint:gosec // fewer than 2^63
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
	return []func(context.Context) error{a.topology.Run, a.topology.Worker.Run, a.prune, a.watch}
}

// begin looks at every change log once, so that a daemon that could read nothing
// says so at its start and does not go on trying. One of several databases that
// is away does not keep the others waiting.
func (a *App) begin(ctx context.Context) error {
	if a.opts.WorkerOnly {
		return nil
	}
	var errs []error
	for i, err := range a.heads(ctx) {
		db := a.topology.Databases[i]
		if err != nil {
			errs = append(errs, fmt.Errorf("database %s: %w", db.Config.Name, err))
			continue
		}
		a.warnOfDrift(ctx, db)
		a.warnOfJournal(ctx, db)
	}
	if len(errs) > 0 && len(errs) == len(a.topology.Databases) {
		return errors.Join(errs...)
	}
	for _, err := range errs {
		a.logger.Error("a database cannot be read; the others are, and this one as soon as it can", "error", err)
	}
	return a.topology.Begin(ctx)
}

// silence is how long the others may be silent after one database has answered.
const silence = 2 * time.Second

var errSilent = fmt.Errorf("no answer within %s", silence)

// heads asks every database where its log ends.
func (a *App) heads(ctx context.Context) []error {
	ctx, enough := context.WithCancelCause(ctx)
	defer enough(nil)
	errs := make([]error, len(a.topology.Databases))
	var asking sync.WaitGroup
	for i, db := range a.topology.Databases {
		asking.Go(func() {
			_, err := db.Source.Head(ctx)
			if errs[i] = err; err == nil {
				time.AfterFunc(silence, func() { enough(errSilent) })
			} else if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
				errs[i] = cause
			}
		})
	}
	asking.Wait()
	return errs
}

// Counts says how deliveries ended so far.
func (a *App) Counts() middleware.Counts { return a.topology.Counters.Read() }

// Close releases what [New] opened. Run calls it.
func (a *App) Close() error {
	return a.topology.Close()
}
