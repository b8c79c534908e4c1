package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Run executes a claimed delivery and leaves how it ended in d.State: Done,
// Dropped, Scheduled or Dead. Its error means that it could not run at all.
type Run func(ctx context.Context, d *observer.Delivery) error

// settleGrace is how long storing an outcome may take when the process is being
// stopped by force.
const settleGrace = 5 * time.Second

// claimOwner makes the owner of one claim. Were it that of the process, a run
// whose lease ended would go on under the lease of the next claim.
func claimOwner(process string) string { return process + "#" + rand.Text()[:8] }

// process is what a worker and a redrive share: a claim and what follows.
type process struct {
	store  observer.DeliveryStore
	run    Run
	owner  string
	lease  time.Duration
	logger *slog.Logger
	// patience is how long to try to store an outcome while the process lives.
	patience time.Duration
	// unsettled counts the outcomes that could not be stored yet.
	unsettled *atomic.Int64
}

// finish runs a claimed delivery while keeping its lease, and stores the
// outcome.
func (p process) finish(ctx context.Context, d *observer.Delivery) error {
	running, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); p.keepLease(running, cancel, d.Key) }()
	was := d.State
	if was == observer.Scheduled {
		d.State = "" // how this run ends is not decided; the stored row keeps its state
	}
	err := p.run(running, d)
	cancel(nil)
	<-stopped
	if err != nil {
		if d.State = was; was == observer.Dead {
			p.giveBack(ctx, d)
		}
		return fmt.Errorf("run delivery %s: %w", d.Key, err)
	}
	return p.settle(ctx, d)
}

// giveBack ends the claim of a dead letter that could not run, so that a person
// may try again at once. A scheduled one waits for the end of its lease: it
// would only be claimed and fail again.
func (p process) giveBack(ctx context.Context, d *observer.Delivery) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleGrace)
	defer cancel()
	if err := p.store.UpdateDelivery(ctx, d, p.owner); err != nil {
		p.logger.Warn("claim cannot be given back; it ends with its lease", "delivery", d.Key, "error", err)
	}
}

// keepLease extends the lease at a third of its time until ctx ends. When
// somebody else holds it, this process must stop working on the delivery.
func (p process) keepLease(ctx context.Context, cancel context.CancelCauseFunc, key string) {
	for backoff.Wait(ctx, nil, p.lease/3) {
		err := p.store.ExtendLease(ctx, key, p.owner, p.lease)
		switch {
		case err == nil || ctx.Err() != nil:
		case errors.Is(err, observer.ErrBusy), errors.Is(err, observer.ErrNotFound):
			p.logger.Warn("lease lost; stopping this delivery here", "delivery", key, "error", err)
			cancel(err)
		default:
			p.logger.Warn("lease cannot be extended; trying again", "delivery", key, "error", err)
		}
	}
}

// settle stores how d ended, with patience: given up, what is done would be done
// again. [observer.ErrBusy] when the delivery is somebody else's by now.
func (p process) settle(ctx context.Context, d *observer.Delivery) error {
	ctx, cancel := p.patient(ctx)
	defer cancel()
	for failures := 1; ; failures++ {
		err := p.settleOnce(ctx, d)
		if errors.Is(err, observer.ErrBusy) {
			if err = p.reclaim(ctx, d); err == nil {
				continue
			}
		}
		if err == nil || errors.Is(err, observer.ErrBusy) || errors.Is(err, observer.ErrNotFound) {
			return err
		}
		if failures == 1 {
			p.unsettled.Add(1)
			defer p.unsettled.Add(-1)
		}
		wait := backoff.Policy{}.Delay(failures)
		p.logger.Warn("outcome cannot be stored; trying again", "delivery", d.Key, "error", err, "wait", wait)
		if !backoff.Wait(ctx, nil, wait) {
			return fmt.Errorf("store outcome of delivery %s: %w", d.Key, err)
		}
	}
}

// patient gives the context for storing an outcome, which ends a moment after
// ctx.
func (p process) patient(ctx context.Context) (context.Context, context.CancelFunc) {
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.patience)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(settleGrace, cancel) })
	return patient, func() { stop(); cancel() }
}

// reclaim leases d again after its lease ran out, as in a long outage of the
// store. [observer.ErrBusy] when somebody else has it or ran it since.
func (p process) reclaim(ctx context.Context, d *observer.Delivery) error {
	stored, err := p.store.ClaimDelivery(ctx, d.Key, p.owner, p.lease)
	if err != nil || stored.UpdatedAt.Equal(d.UpdatedAt) {
		return err
	}
	return errors.Join(observer.ErrBusy, p.store.UpdateDelivery(ctx, stored, p.owner))
}

func (p process) settleOnce(ctx context.Context, d *observer.Delivery) error {
	switch d.State {
	case observer.Done, observer.Dropped:
		return p.store.CompleteDelivery(ctx, d.Key, p.owner)
	default:
		return p.store.UpdateDelivery(ctx, d, p.owner)
	}
}
