package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/fraiseql/observer"
)

// active counts what a worker runs, and knows how to stop it.
type active struct {
	mu      sync.Mutex
	running int
	cancel  map[*Held]context.CancelFunc
	// forced: what runs must end. draining ends when nothing runs any more.
	forced   bool
	draining chan struct{}
	ended    bool
}

func newActive() *active { return &active{cancel: map[*Held]context.CancelFunc{}} }

// enter counts one more until leave is called.
func (a *active) enter() (leave func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.running++
	return a.leave
}

func (a *active) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.running--; a.running == 0 && a.draining != nil {
		a.end()
	}
}

func (a *active) end() {
	if !a.ended {
		a.ended = true
		close(a.draining)
	}
}

// drain waits until nothing runs. Then nothing can begin.
func (a *active) drain() {
	a.mu.Lock()
	a.draining = make(chan struct{})
	if a.running == 0 {
		a.end()
	}
	a.mu.Unlock()
	<-a.draining
}

// force ends the contexts of what is held.
func (a *active) force() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.forced = true
	for _, cancel := range a.cancel {
		cancel()
	}
}

// hold counts h, whose context cancel ends, unless the worker has stopped.
func (a *active) hold(h *Held, cancel context.CancelFunc) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || a.forced {
		return false
	}
	a.running++
	a.cancel[h] = cancel
	return true
}

func (a *active) drop(h *Held) {
	a.mu.Lock()
	delete(a.cancel, h)
	a.mu.Unlock()
	a.leave()
}

// Attach lets somebody begin deliveries while the worker drains: Run waits until
// detach is called. After DrainTimeout nothing can be begun all the same.
func (w *Worker) Attach() (detach func()) { return sync.OnceFunc(w.active.enter()) }

// Held is a delivery of a first pass that is stored as running, under a lease
// that this process keeps. Settle must be called once.
type Held struct {
	process process
	worker  *Worker
	was     origin
	key     string

	base, running context.Context //nolint:containedctx // they are what is held
	cancel        context.CancelFunc
	stop          func()
}

// Begin stores d as running, leased to this process, before its first attempt or
// while that goes on. It only reads d, which nobody may change meanwhile. The
// result is nil, without an error, when the key is there already: then somebody
// else has it. [ErrStopped] when the worker has ended or stops by force.
func (w *Worker) Begin(ctx context.Context, d *observer.Delivery) (*Held, error) {
	h := &Held{process: w.process(claimOwner(w.cfg.Owner)), worker: w, was: originOf(d), key: d.Key}
	h.was.state, h.was.lost = observer.Unknown, 0
	h.base, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !w.active.hold(h, h.cancel) {
		h.cancel()
		return nil, ErrStopped
	}
	begun, err := w.cfg.Store.BeginDelivery(ctx, d, h.process.owner, w.cfg.Lease)
	if err != nil || !begun {
		h.cancel()
		w.active.drop(h)
		if err != nil {
			err = fmt.Errorf("store delivery %s as running: %w", d.Key, err)
		}
		return nil, err
	}
	h.running, h.stop = h.process.keep(h.base, d.Key)
	return h, nil
}

// Context carries the values of the context that Begin was given. It ends when
// the lease is lost, when the worker stops by force, and after Settle.
func (h *Held) Context() context.Context { return h.running }

// Settle stores how d, the delivery that was begun or a copy of it, ended, and
// ends the claim. It waits for a store that is away. [observer.ErrBusy] when
// somebody else has the delivery by now. A delivery of which nothing is decided
// is left to its lease, and counts as an attempt of which nobody knows the
// outcome.
func (h *Held) Settle(d *observer.Delivery) error {
	defer h.worker.active.drop(h)
	defer h.cancel()
	h.stop()
	if d.State == "" || d.State == observer.Running {
		return errors.New("settle delivery " + h.key + ": nothing was decided about it")
	}
	err := h.process.settle(h.base, d, &h.was)
	if h.worker.leadsOn(d) {
		h.worker.Wake()
	}
	return err
}
