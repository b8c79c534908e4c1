package delivery

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// active counts what a worker runs, and knows how to stop it.
type active struct {
	mu      sync.Mutex
	running int
	cancel  map[*Held]context.CancelFunc
	// keys are those of what is held.
	keys map[string]struct{}
	// forced: what runs must end. draining ends when nothing runs any more.
	forced   bool
	draining chan struct{}
	ended    bool
}

func newActive() *active {
	return &active{cancel: map[*Held]context.CancelFunc{}, keys: map[string]struct{}{}}
}

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
// held is false when another of the same key is held already.
func (a *active) hold(h *Held, cancel context.CancelFunc) (held bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.ended || a.forced {
		return false, ErrStopped
	}
	if _, there := a.keys[h.key]; there {
		return false, nil
	}
	a.running++
	a.cancel[h] = cancel
	a.keys[h.key] = struct{}{}
	return true, nil
}

func (a *active) drop(h *Held) {
	a.mu.Lock()
	delete(a.cancel, h)
	delete(a.keys, h.key)
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
// else has it. [ErrStopped] when the worker has ended or stops by force. After
// another error d may be stored all the same; Begin, called again, finds out.
func (w *Worker) Begin(ctx context.Context, d *observer.Delivery) (*Held, error) {
	h := &Held{worker: w, was: originOf(d), key: d.Key}
	h.was.state, h.was.lost = observer.Unknown, 0
	h.base, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if held, err := w.active.hold(h, h.cancel); !held {
		h.cancel()
		return nil, err
	}
	begun, err := h.store(ctx, d)
	if err != nil || !begun {
		h.cancel()
		w.active.drop(h)
		return nil, err
	}
	h.running, h.stop = h.process.keep(h.base, d.Key)
	return h, nil
}

// store stores d as running and reports whether this process has it. It may be
// there already, stored by an earlier call that got no answer.
func (h *Held) store(ctx context.Context, d *observer.Delivery) (begun bool, err error) {
	w, began := h.worker, time.Now()
	owner, doubt := w.doubts.owner(d.Key)
	if !doubt {
		owner = claimOwner(w.cfg.Owner)
	}
	h.process = w.process(owner)
	begun, err = w.cfg.Store.BeginDelivery(ctx, d, owner, w.cfg.Lease)
	if err == nil && !begun && doubt {
		begun, err = h.stored(ctx)
	}
	switch {
	case err != nil:
		w.doubts.add(d.Key, owner, began.Add(w.cfg.Lease))
		return false, fmt.Errorf("store delivery %s as running: %w", d.Key, err)
	case doubt:
		w.doubts.remove(d.Key)
	}
	return begun, nil
}

// stored reports whether what is there is what this process stored, and claims
// it once more when its lease is over and nobody had it since.
func (h *Held) stored(ctx context.Context) (ours bool, err error) {
	p := h.process
	err = p.store.ExtendLease(ctx, h.key, p.owner, p.lease)
	if errors.Is(err, observer.ErrBusy) {
		var d *observer.Delivery
		if d, err = p.store.ClaimDelivery(ctx, h.key, p.owner, p.lease); err == nil {
			now := originOf(d)
			if h.was.lost = now.lost; d.Lost == 1 && h.was.same(now) {
				return true, nil
			}
			p.giveBack(ctx, d)
			return false, nil
		}
	}
	if errors.Is(err, observer.ErrBusy) || errors.Is(err, observer.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// Context carries the values of the context that Begin was given. It ends when
// the lease is lost, when the worker stops by force, and after Settle.
func (h *Held) Context() context.Context { return h.running }

// Settle stores how d, the delivery that was begun or a copy of it, ended, and
// ends the claim. It waits for a store that is away. [observer.ErrBusy] when
// somebody else has the delivery by now. A delivery of which nothing is decided
// is left to its lease, and counts as an attempt of which nobody knows the
// outcome. Once it is stored, and while the worker still waits for it, then is
// called.
func (h *Held) Settle(d *observer.Delivery, then ...func()) error {
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
	if err != nil {
		return err
	}
	for _, f := range then {
		f()
	}
	return nil
}
