package delivery

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/failpoint"
)

// look claims what is due as far as there is room and begins it. more is true
// when there may be more of it.
func (w *Worker) look(ctx, work context.Context) (begun int, more bool, err error) {
	w.places.look()
	looked := w.cfg.Traffic.Look()
	defer func() { looked(more || err != nil) }()
	if time.Since(w.looked) >= w.cfg.Poll {
		if err := w.cfg.Endpoints.Refresh(ctx); err != nil {
			return 0, false, err
		}
		w.looked = time.Now()
	}
	// The store bounds each combination of queue and endpoint, not a queue. So
	// each limited queue is claimed for by itself, and the others together.
	groups := append(slices.Clone(w.queues), "")
	first := w.turn
	for i := range groups {
		at := (first + i) % len(groups)
		n, asked, err := w.claim(ctx, work, groups[at], at == len(groups)-1)
		if err != nil {
			return begun, false, err
		}
		if begun == 0 && n > 0 {
			w.turn = at + 1
		}
		begun += n
		more = more || asked > 0 && n == asked
	}
	return begun, more, nil
}

// claim claims from one limited queue, or for rest from all that are not, and
// begins what it gets. asked is how many there was room for.
func (w *Worker) claim(ctx, work context.Context, queue string, rest bool) (begun, asked int, err error) {
	asked = min(w.places.free(), w.cfg.BatchSize)
	if !rest {
		asked = min(asked, w.places.left(queue))
	}
	if asked <= 0 || ctx.Err() != nil {
		return 0, 0, nil
	}
	owner := claimOwner(w.cfg.Owner)
	// An answer that is not waited for would leave claims that nobody holds.
	patient, cancel := graceful(ctx, w.cfg.Lease)
	defer cancel()
	asking := time.Now()
	due, err := w.cfg.Store.ClaimDue(patient, observer.Claim{
		Owner: owner, Lease: w.cfg.Lease, Limit: asked,
		Room: func(q, endpoint string) int {
			if rest == w.places.limited(q) || !rest && q != queue {
				return 0
			}
			return w.room(q, endpoint)
		},
	})
	if len(due) > 0 {
		failpoint.Hit(failpoint.Claimed)
	}
	for _, d := range due {
		if w.begin(ctx, work, claim{owner, asking}, d) {
			begun++
		}
	}
	return begun, asked, err
}

// room is how many more deliveries of a queue to an endpoint may run.
func (w *Worker) room(queue, endpoint string) int {
	if w.cfg.Serves != nil && !w.cfg.Serves(queue) {
		return 0
	}
	return w.places.room(queue, endpoint, w.allowance(endpoint))
}

func (w *Worker) allowance(endpoint string) func(running int) int {
	hard := max(1, w.cfg.Concurrency/10)
	return func(running int) int {
		healthy := w.cfg.Endpoints.allowance(endpoint, running, hard)
		if healthy <= 0 {
			return healthy
		}
		return min(healthy, w.cfg.Traffic.Allowance(endpoint))
	}
}

// claim is a claim that was asked for at a time.
type claim struct {
	owner string
	asked time.Time
}

// begin runs a claimed delivery in the background. When the process is to stop,
// or an endpoint was claimed for in several queues or used by lanes meanwhile and
// has no more room, it gives the claim back.
func (w *Worker) begin(ctx, work context.Context, c claim, d *observer.Delivery) bool {
	p := w.process(c.owner)
	p.claimed = c.asked
	stop := w.active.enter()
	if ctx.Err() != nil || !w.places.take(d.Queue, d.Endpoint, w.allowance(d.Endpoint)) {
		go func() { defer stop(); p.giveBack(work, d) }()
		return false
	}
	queue, endpoint := d.Queue, d.Endpoint
	admitted, leave, ok := w.cfg.Traffic.Admit(work, endpoint)
	if !ok {
		w.places.give(queue, endpoint)
		go func() { defer stop(); p.giveBack(work, d) }()
		return false
	}
	w.cfg.Endpoints.started(endpoint)
	go func() {
		defer stop()
		w.run(admitted, p, d)
		leave()
		if w.places.give(queue, endpoint) || w.leadsOn(d) {
			w.Wake()
		}
	}()
	return true
}

func (w *Worker) run(ctx context.Context, p process, d *observer.Delivery) {
	run := w.cfg.Run
	if (d.Lost > 0 || d.ClaimedFrom == observer.Unknown) && !w.cfg.MayRepeat(d) {
		run = w.buryUnknown
	}
	if err := p.finish(ctx, d, run); err != nil {
		w.cfg.Logger.Error("stored delivery could not be finished; it runs again later", "delivery", d.Key, "error", err)
	}
}

// leadsOn reports whether the end of d makes something due that the worker does
// not know of: what waited in its lane, or d itself.
func (w *Worker) leadsOn(d *observer.Delivery) bool {
	return d.Lane() != "" && !d.Blocks() || d.State.Due() && time.Until(d.RunAt) < w.cfg.Poll
}

// buryUnknown gives up what may have arrived and must not arrive twice.
func (w *Worker) buryUnknown(ctx context.Context, d *observer.Delivery) error {
	w.cfg.Bury(ctx, d, observer.Permanent(observer.ReasonOutcomeUnknown,
		errors.New("it may have been sent, and is not to be sent twice: find out whether it arrived, then redrive or remove it")))
	return nil
}

func (w *Worker) process(owner string) process {
	return process{
		store: w.cfg.Store, owner: owner, lease: w.cfg.Lease, logger: w.cfg.Logger,
		patience: outagePatience, unsettled: &w.unsettled,
	}
}
