package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// Run executes a claimed delivery and leaves how it ended in d.State: Done,
// Dropped, Scheduled or Dead. Its error means that it could not run at all.
type Run func(ctx context.Context, d *observer.Delivery) error

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
}

// finish runs a claimed delivery while keeping its lease, and stores the
// outcome.
func (p process) finish(ctx context.Context, d *observer.Delivery) error {
	ctx, cancel := context.WithCancelCause(ctx)
	stopped := make(chan struct{})
	go func() { defer close(stopped); p.keepLease(ctx, cancel, d.Key) }()
	if d.State == observer.Scheduled {
		d.State = "" // how this run ends is not decided; the stored row keeps its state
	}
	err := p.run(ctx, d)
	cancel(nil)
	<-stopped
	if err != nil {
		return fmt.Errorf("run delivery %s: %w", d.Key, err)
	}
	return p.settle(context.WithoutCancel(ctx), d)
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

// settle stores how d ended. It tries until the lease is over: from then on the
// delivery is somebody else's.
func (p process) settle(ctx context.Context, d *observer.Delivery) error {
	ctx, cancel := context.WithTimeout(ctx, p.lease)
	defer cancel()
	for failures := 1; ; failures++ {
		err := p.settleOnce(ctx, d)
		if err == nil || errors.Is(err, observer.ErrBusy) || errors.Is(err, observer.ErrNotFound) {
			return err
		}
		wait := backoff.Policy{}.Delay(failures)
		p.logger.Warn("outcome cannot be stored; trying again", "delivery", d.Key, "error", err, "wait", wait)
		if !backoff.Wait(ctx, nil, wait) {
			return fmt.Errorf("store outcome of delivery %s: %w", d.Key, err)
		}
	}
}

func (p process) settleOnce(ctx context.Context, d *observer.Delivery) error {
	switch d.State {
	case observer.Done, observer.Dropped:
		return p.store.CompleteDelivery(ctx, d.Key, p.owner)
	default:
		return p.store.UpdateDelivery(ctx, d, p.owner)
	}
}
