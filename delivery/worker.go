package delivery

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// ErrStopped is given when the worker has ended and keeps no lease any more.
var ErrStopped = errors.New("the worker has stopped")

// WorkerConfig says what a worker runs and within which bounds.
type WorkerConfig struct {
	// Store holds the deliveries, Run executes one. Required. Somebody has to call
	// PruneDeliveries of the store every minute or so, as the daemon does: see
	// [NewWorker].
	Store observer.DeliveryStore
	Run   Run
	// Owner names this process in leases, for people. Required.
	Owner string
	// Endpoints is the health of the receivers, which whoever makes attempts
	// reports to it; nil takes every endpoint to work unless a row of the store
	// says that it is paused.
	Endpoints *Endpoints
	// Traffic bounds what else may run; nil is nothing.
	Traffic Traffic
	// Concurrency is how many deliveries run at a time; 50 when zero.
	Concurrency int
	// BatchSize is how many are claimed at once at most; 100 when zero.
	BatchSize int
	// Queues are how many deliveries of a queue run at a time in this process.
	// Others share all places.
	Queues map[string]int
	// Serves says whether this process may run what is in a queue; nil says yes. It
	// is called often.
	Serves func(queue string) bool
	// Lease is how long a delivery stays with a worker that no longer answers;
	// 60 s when zero.
	Lease time.Duration
	// Poll is how often the store is asked when nothing is known to be due; 1 s
	// when zero. It finds what other processes stored.
	Poll time.Duration
	// DrainTimeout is how long running deliveries may finish after the context
	// ends; 30 s when zero.
	DrainTimeout time.Duration
	// MayRepeat says whether a delivery may be sent again that may have been sent
	// before: one whose claim was lost, or that is Unknown. What may not is buried
	// as [observer.ReasonOutcomeUnknown]. Nil repeats everything.
	MayRepeat func(d *observer.Delivery) bool
	// Bury decides that a delivery is given up without running; nil is
	// [observer.Delivery.Bury].
	Bury func(ctx context.Context, d *observer.Delivery, cause error)
	// Logger is slog.Default() when nil.
	Logger *slog.Logger
}

func (c WorkerConfig) withDefaults() WorkerConfig {
	orElse := func(d *time.Duration, otherwise time.Duration) {
		if *d <= 0 {
			*d = otherwise
		}
	}
	orElse(&c.Lease, time.Minute)
	orElse(&c.Poll, time.Second)
	orElse(&c.DrainTimeout, 30*time.Second)
	if c.Concurrency <= 0 {
		c.Concurrency = 50
	}
	if c.BatchSize <= 0 {
		c.BatchSize = 100
	}
	if c.MayRepeat == nil {
		c.MayRepeat = func(*observer.Delivery) bool { return true }
	}
	if c.Bury == nil {
		c.Bury = func(_ context.Context, d *observer.Delivery, cause error) { d.Bury(cause) }
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Traffic == nil {
		c.Traffic = free{}
	}
	if c.Endpoints == nil {
		c.Endpoints = NewEndpoints(EndpointsConfig{Store: c.Store, Logger: c.Logger})
	}
	return c
}

const (
	// outagePatience is how long an outcome waits for the store, and claims wait
	// for the outcome: one that can never be stored must not end all others.
	outagePatience = time.Hour
	// unsettledPause is the time between two looks whether outcomes are stored.
	unsettledPause = 100 * time.Millisecond
	// fruitlessPause is the wait after a claim that found nothing although
	// something is due, as when another process was faster. It doubles.
	fruitlessPause = time.Millisecond
)

// Worker runs stored deliveries when they are due, and keeps the leases of those
// that a first pass runs. Make one with [NewWorker] and call Run once. Its other
// methods may be called at any time, concurrently.
type Worker struct {
	cfg    WorkerConfig
	places *places
	wake   chan struct{}
	active *active
	doubts doubts
	// unsettled counts outcomes that wait for the store.
	unsettled atomic.Int64

	// What follows belongs to the loop of Run. queues are those with a limit, turn
	// is whose turn it is to claim first, looked is when the endpoints were last
	// looked at, fruitless counts claims in a row that found nothing that is due.
	queues    []string
	turn      int
	looked    time.Time
	fruitless int
}

// NewWorker returns a worker. It runs deliveries and removes none: whoever makes
// a worker outside of the daemon calls [observer.DeliveryStore.PruneDeliveries]
// every minute or so, from one process of those that share the store. Without that
// finished deliveries stay for ever, and an entity in strict order whose dead letter
// was run by a process that was killed never goes on.
func NewWorker(cfg WorkerConfig) *Worker {
	cfg = cfg.withDefaults()
	w := &Worker{cfg: cfg, wake: make(chan struct{}, 1), active: newActive()}
	limits := map[string]int{}
	for queue, limit := range cfg.Queues {
		if limit > 0 {
			limits[queue] = limit
			w.queues = append(w.queues, queue)
		}
	}
	w.places = newPlaces(cfg.Concurrency, limits)
	cfg.Endpoints.onChange(w.Wake)
	return w
}

// Wake tells the worker that something was stored. It never blocks.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run works until ctx ends, then lets what runs finish within DrainTimeout,
// stops the rest by force and returns nil. Store failures are logged and tried
// again. Deliveries that were begun with Begin count as running; nothing can be
// begun once Run has returned.
func (w *Worker) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(observer.WithDrain(context.WithoutCancel(ctx), ctx.Done()))
	defer cancel()
	for failures := 0; ctx.Err() == nil; {
		if w.unsettled.Load() > 0 || w.doubts.any() {
			// Invariant 6: the lease of what is done may be over, and claiming
			// it now would do it again. So may that of what a first pass asks for.
			backoff.Wait(ctx, nil, unsettledPause)
			continue
		}
		begun, more, err := w.look(ctx, work)
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures++
			w.cfg.Logger.Warn("stored deliveries cannot be read; trying again", "error", err, "failures", failures)
			backoff.Wait(ctx, nil, backoff.Policy{}.Delay(failures))
		default:
			failures = 0
			w.sleep(ctx, begun, more)
		}
	}
	force := time.AfterFunc(w.cfg.DrainTimeout, func() { cancel(); w.active.force() })
	defer force.Stop()
	w.active.drain()
	return nil
}

// sleep waits until something is due for which there is room, or may be.
func (w *Worker) sleep(ctx context.Context, begun int, more bool) {
	if begun > 0 {
		w.fruitless = 0
	}
	wait := max(time.Until(w.looked.Add(w.cfg.Poll)), fruitlessPause)
	if w.places.free() > 0 {
		if more {
			return
		}
		if next, err := w.cfg.Store.NextDue(ctx, w.room); err == nil && !next.IsZero() {
			wait = min(wait, w.until(next, begun))
		}
		for _, opens := range []time.Time{w.cfg.Endpoints.opens(), w.cfg.Traffic.Opens()} {
			if !opens.IsZero() {
				wait = min(wait, time.Until(opens))
			}
		}
	}
	if !backoff.Wait(ctx, w.wake, wait) {
		w.fruitless = 0
	}
}

// until is how long to wait for what is next due. What is due already and could
// not be claimed is looked at less and less often.
func (w *Worker) until(next time.Time, begun int) time.Duration {
	wait := time.Until(next)
	if wait > 0 || begun > 0 {
		return max(wait, 0)
	}
	w.fruitless = min(w.fruitless+1, 16)
	return fruitlessPause << w.fruitless
}
