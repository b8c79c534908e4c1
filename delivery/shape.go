package delivery

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
)

// Errors that callers branch on.
var (
	// ErrStopped: the worker has ended and keeps no lease any more.
	ErrStopped = errors.New("the worker has stopped")
	// ErrBlocked: an earlier delivery of the same entity and observer has to be
	// out of the way first.
	ErrBlocked = errors.New("an earlier delivery of its entity comes first")
)

// Run executes a claimed delivery, whose State is Running and whose ClaimedFrom
// says where it was, and decides its State. Its error means that it could not
// run at all: it is then where it was.
type Run func(ctx context.Context, d *observer.Delivery) error

// WorkerConfig says what a worker runs and within which bounds.
type WorkerConfig struct {
	Store        observer.DeliveryStore
	Run          Run
	Owner        string
	Endpoints    *Endpoints
	Concurrency  int
	BatchSize    int
	Queues       map[string]int
	Lease        time.Duration
	Poll         time.Duration
	DrainTimeout time.Duration
	MayRepeat    func(d *observer.Delivery) bool
	Bury         func(ctx context.Context, d *observer.Delivery, cause error)
	Logger       *slog.Logger
}

// Worker runs stored deliveries when they are due.
type Worker struct{ cfg WorkerConfig }

// NewWorker returns a worker.
func NewWorker(cfg WorkerConfig) *Worker { return &Worker{cfg: cfg} }

// Run works until ctx ends.
func (w *Worker) Run(ctx context.Context) error { <-ctx.Done(); return nil }

// Wake tells the worker that something was stored. It never blocks.
func (w *Worker) Wake() {}

// Begin stores d as running.
func (w *Worker) Begin(ctx context.Context, d *observer.Delivery) (*Held, error) {
	return &Held{ctx: ctx}, ctx.Err()
}

// Held is a delivery of a first pass that this process has stored as running.
type Held struct{ ctx context.Context }

// Context ends when the lease is lost or the worker stops by force.
func (h *Held) Context() context.Context { return h.ctx }

// Settle stores how d ended, and ends the claim.
func (h *Held) Settle(d *observer.Delivery) error { return h.ctx.Err() }

// EndpointsConfig says when an endpoint is paused and probed.
type EndpointsConfig struct {
	Store         observer.DeliveryStore
	DisableAfter  time.Duration
	ProbeInterval time.Duration
	Slow          time.Duration
	Paused        func(ctx context.Context, e observer.Endpoint)
	Logger        *slog.Logger
}

// Endpoints is the health of receivers.
type Endpoints struct{ cfg EndpointsConfig }

// NewEndpoints returns endpoints of which nothing is known.
func NewEndpoints(cfg EndpointsConfig) *Endpoints { return &Endpoints{cfg: cfg} }

// Ready reports whether a lane may try the endpoint in line.
func (e *Endpoints) Ready(name string) bool { return true }

// Attempted takes note of an attempt.
func (e *Endpoints) Attempted(ctx context.Context, name string, took time.Duration, err error) {}

// Outlasted takes note of an attempt that outlasted its lane.
func (e *Endpoints) Outlasted(name string) {}

// Refresh takes over what other processes stored.
func (e *Endpoints) Refresh(ctx context.Context) error { return nil }

// Pause stops sending to an endpoint until [Resume].
func Pause(ctx context.Context, store observer.DeliveryStore, name string) error { return nil }

// Resume ends the pause of an endpoint; [observer.ErrNotFound] when it has none.
func Resume(ctx context.Context, store observer.DeliveryStore, name string) error { return nil }

// RedriveConfig says where and how deliveries are run again.
type RedriveConfig struct {
	Store  observer.DeliveryStore
	Run    Run
	Owner  string
	Lease  time.Duration
	Logger *slog.Logger
}

// Redrive runs one stored delivery now and returns it as it ended.
func Redrive(ctx context.Context, cfg RedriveConfig, key string) (*observer.Delivery, error) {
	return nil, ErrBlocked
}

// BulkOptions say how [Requeue] and [Discard] go about it.
type BulkOptions struct {
	Rate     float64
	DryRun   bool
	Progress func(done, total int)
}

// BulkResult says what became of the selected deliveries.
type BulkResult struct{ Selected, Done, Parked, Skipped int }

// Requeue has the worker run the selected dead letters again.
func Requeue(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, opts BulkOptions) (BulkResult, error) {
	return BulkResult{}, nil
}

// Discard removes the selected dead letters for good.
func Discard(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, opts BulkOptions) (BulkResult, error) {
	return BulkResult{}, nil
}

// Edit changes the request of a dead letter.
func Edit(ctx context.Context, store observer.DeliveryStore, key string, edit func(request json.RawMessage) (json.RawMessage, error)) error {
	return nil
}

// Export writes the selected deliveries as JSON lines and gives their number.
func Export(ctx context.Context, store observer.DeliveryStore, filter observer.DeliveryFilter, w io.Writer) (int, error) {
	return 0, nil
}

// ImportResult says what became of the lines.
type ImportResult struct {
	Stored, Skipped int
	Bad             []BadLine
}

// BadLine is a line that was not imported.
type BadLine struct {
	Line int
	Err  error
}

// Import stores what [Export] wrote.
func Import(ctx context.Context, store observer.DeliveryStore, r io.Reader) (ImportResult, error) {
	return ImportResult{}, nil
}
