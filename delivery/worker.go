package delivery

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// WorkerConfig says what a worker runs and within which bounds.
type WorkerConfig struct {
	// Store holds the deliveries, Run executes one. Required.
	Store observer.DeliveryStore
	Run   Run
	// Owner names this process in leases, for people. Required.
	Owner string
	// Concurrency is how many deliveries run at a time; 10 when zero.
	Concurrency int
	// Lease is how long a delivery stays with a worker that no longer answers;
	// 30 s when zero.
	Lease time.Duration
	// Poll is how often the store is asked when nothing is known to be due; 1 s
	// when zero. It finds what other processes scheduled.
	Poll time.Duration
	// DrainTimeout is how long running deliveries may finish after the
	// context ends; 30 s when zero.
	DrainTimeout time.Duration
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

func (c WorkerConfig) withDefaults() WorkerConfig {
	if c.Concurrency <= 0 {
		c.Concurrency = 10
	}
	if c.Lease <= 0 {
		c.Lease = 30 * time.Second
	}
	if c.Poll <= 0 {
		c.Poll = time.Second
	}
	if c.DrainTimeout <= 0 {
		c.DrainTimeout = 30 * time.Second
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c
}

// outagePatience is how long an outcome waits for the store, and claims wait for
// the outcome: one that can never be stored must not end all others.
const outagePatience = time.Hour

// unsettledPause is the time between two looks whether outcomes are stored.
const unsettledPause = 100 * time.Millisecond

// Worker runs scheduled deliveries when they are due. Make one with
// [NewWorker] and call Run once.
type Worker struct {
	cfg    WorkerConfig
	places chan struct{}
	wake   chan struct{}
	// unsettled counts outcomes that wait for the store.
	unsettled atomic.Int64
}

// NewWorker returns a worker.
func NewWorker(cfg WorkerConfig) *Worker {
	cfg = cfg.withDefaults()
	return &Worker{cfg: cfg, places: make(chan struct{}, cfg.Concurrency), wake: make(chan struct{}, 1)}
}

// Wake tells the worker that something was scheduled. It never blocks.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then lets what runs finish within DrainTimeout and
// returns nil. Store failures are logged and tried again.
func (w *Worker) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(observer.WithDrain(context.WithoutCancel(ctx), ctx.Done()))
	defer cancel()
	var running sync.WaitGroup
	failures := 0
	for ctx.Err() == nil {
		if w.unsettled.Load() > 0 {
			// Invariant 6: the lease of what is done may be over, and claiming
			// it now would do it again.
			backoff.Wait(ctx, nil, unsettledPause)
			continue
		}
		n, err := w.claim(ctx, work, &running)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures++
			w.cfg.Logger.Warn("scheduled deliveries cannot be read; trying again", "error", err, "failures", failures)
			backoff.Wait(ctx, nil, backoff.Policy{}.Delay(failures))
		case n == 0:
			failures = 0
			w.sleep(ctx)
		}
	}
	stop := time.AfterFunc(w.cfg.DrainTimeout, cancel)
	defer stop.Stop()
	running.Wait()
	return nil
}

// claim leases as many due deliveries as there are free places, starts them and
// returns their number.
func (w *Worker) claim(ctx, work context.Context, running *sync.WaitGroup) (int, error) {
	places := w.takePlaces(ctx)
	if places == 0 {
		return 0, nil
	}
	owner := claimOwner(w.cfg.Owner)
	due, err := w.cfg.Store.ClaimDue(ctx, owner, w.cfg.Lease, places)
	for range places - len(due) {
		<-w.places
	}
	for _, d := range due {
		running.Go(func() {
			defer func() { <-w.places }()
			w.run(work, owner, d)
		})
	}
	return len(due), err
}

// takePlaces waits for one free place and takes all that are free.
func (w *Worker) takePlaces(ctx context.Context) int {
	select {
	case w.places <- struct{}{}:
	case <-ctx.Done():
		return 0
	}
	for n := 1; ; n++ {
		select {
		case w.places <- struct{}{}:
		default:
			return n
		}
	}
}

func (w *Worker) run(ctx context.Context, owner string, d *observer.Delivery) {
	p := process{
		store: w.cfg.Store, run: w.cfg.Run, owner: owner, lease: w.cfg.Lease, logger: w.cfg.Logger,
		patience: outagePatience, unsettled: &w.unsettled,
	}
	if err := p.finish(ctx, d); err != nil {
		w.cfg.Logger.Error("scheduled delivery could not be finished; it runs again when its lease ends",
			"delivery", d.Key, "error", err)
	}
}

// sleep waits until something is due or may be.
func (w *Worker) sleep(ctx context.Context) {
	wait := w.cfg.Poll
	if next, err := w.cfg.Store.NextDue(ctx); err == nil && !next.IsZero() {
		wait = min(wait, max(time.Until(next), time.Millisecond))
	}
	backoff.Wait(ctx, w.wake, wait)
}
