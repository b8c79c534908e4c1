package delivery

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/internal/failpoint"
)

// Run executes a claimed delivery and decides its State, which is Running when
// it begins; ClaimedFrom says where it was. Its error means that it could not
// run at all: the delivery then goes back to where it was, and a due one is
// tried again after the time of a lease.
type Run func(ctx context.Context, d *observer.Delivery) error

// settleGrace is how long storing an outcome may take when the process is being
// stopped by force, and an answer to a claim when it is asked to stop.
const settleGrace = 5 * time.Second

// maxStack bounds the stack that a panic leaves in the attempt's record.
const maxStack = 4 << 10

// claimOwner makes the owner of one claim. Were it that of the process, a run
// whose lease ended would go on under the lease of the next claim.
func claimOwner(process string) string { return process + "#" + rand.Text()[:8] }

// process is what everybody who claims deliveries shares: what happens under a
// claim, and how it ends.
type process struct {
	store  observer.DeliveryStore
	owner  string
	lease  time.Duration
	logger *slog.Logger
	// patience is how long to try to store an outcome while the process lives.
	patience time.Duration
	// unsettled counts the outcomes that could not be stored yet.
	unsettled *atomic.Int64
	// claimed is when the claim was asked for; now when it is zero.
	claimed time.Time
}

// finish runs a claimed delivery while keeping its lease, and stores the
// outcome.
func (p process) finish(ctx context.Context, d *observer.Delivery, run Run) error {
	was := originOf(d)
	recordLost(d)
	running, stop := p.keep(ctx, d.Key)
	err := safely(running, d, run)
	stop()
	if err == nil {
		return p.settle(ctx, d, &was)
	}
	was.restore(d)
	if d.State.Due() && ctx.Err() == nil {
		d.RunAt = time.Now().Add(p.lease)
	}
	return errors.Join(fmt.Errorf("run delivery %s: %w", d.Key, err), p.settle(ctx, d, &was))
}

// safely runs d. A panic of what stands around the action is recorded and
// buried: one broken delivery must not end the process, nor be sent for ever.
func safely(ctx context.Context, d *observer.Delivery, run Run) (err error) {
	began, attempts := time.Now(), len(d.Attempts)
	defer func() {
		if cause := recover(); cause != nil {
			failure := fmt.Errorf("running it panicked: %v", cause)
			if len(d.Attempts) == attempts {
				d.Attempts = append(d.Attempts, observer.Attempt{
					Number: attempts + 1, At: began, Duration: time.Since(began), Error: failure.Error(), Unknown: true,
				})
			}
			stack := debug.Stack()
			d.Attempts[len(d.Attempts)-1].Stack = string(stack[:min(len(stack), maxStack)])
			d.Bury(observer.Permanent(observer.ReasonPermanent, failure))
			err = nil
		}
	}()
	if err := run(ctx, d); err != nil {
		return err
	}
	if d.State == "" || d.State == observer.Running {
		return errors.New("nothing was decided about it")
	}
	return nil
}

// keep extends the lease of a claim until stop is called, which waits for the
// end of that. The context it gives ends when the lease is lost.
func (p process) keep(ctx context.Context, key string) (running context.Context, stop func()) {
	s := p.newSure()
	running, cancel := context.WithCancelCause(observer.WithFence(ctx, func(ctx context.Context) error { return p.fence(ctx, s, key) }))
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		p.keepLease(running, cancel, s, key)
	}()
	return running, func() { cancel(nil); <-stopped }
}

// keepLease extends the lease at a third of its time until ctx ends. When
// somebody else holds it, this process must stop working on the delivery.
func (p process) keepLease(ctx context.Context, cancel context.CancelCauseFunc, s *sure, key string) {
	for backoff.Wait(ctx, nil, p.lease/3) {
		err := p.extend(ctx, s, key)
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
func (p process) settle(ctx context.Context, d *observer.Delivery, was *origin) error {
	ctx, cancel := graceful(ctx, p.patience)
	defer cancel()
	for failures := 1; ; failures++ {
		err := p.store.UpdateDelivery(ctx, d, p.owner)
		if errors.Is(err, observer.ErrBusy) {
			if err = p.reclaim(ctx, d, was); err == nil {
				continue
			}
		}
		switch {
		case err == nil:
			failpoint.Hit(failpoint.Settled)
			release(d)
			return nil
		case errors.Is(err, observer.ErrBusy), errors.Is(err, observer.ErrNotFound):
			return err
		case failures == 1:
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

// reclaim leases d again after its lease ran out, as in a long outage of the
// store. [observer.ErrBusy] when somebody else has it or ran it since. Claims of
// others that died in between are attempts as well.
func (p process) reclaim(ctx context.Context, d *observer.Delivery, was *origin) error {
	stored, err := p.store.ClaimDelivery(ctx, d.Key, p.owner, p.lease)
	if err != nil {
		return err
	}
	if now := originOf(stored); !was.same(now) {
		recordLost(stored)
		now.restore(stored)
		return errors.Join(observer.ErrBusy, p.store.UpdateDelivery(ctx, stored, p.owner))
	}
	ours := was.lost + 1
	was.lost = stored.Lost
	stored.Lost -= ours
	d.Attempts = appendLost(d.Attempts, stored)
	return nil
}

// giveBack ends the claim of a delivery that was not begun. It is no attempt.
func (p process) giveBack(ctx context.Context, d *observer.Delivery) {
	was := originOf(d)
	recordLost(d)
	was.restore(d)
	if err := p.settle(ctx, d, &was); err != nil {
		p.logger.Warn("claim cannot be given back; it ends with its lease", "delivery", d.Key, "error", err)
	}
}

// graceful gives a context that ends after limit, and a moment after ctx did.
func graceful(ctx context.Context, limit time.Duration) (context.Context, context.CancelFunc) {
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	stop := context.AfterFunc(ctx, func() {
		grace := time.AfterFunc(settleGrace, cancel)
		context.AfterFunc(patient, func() { grace.Stop() })
	})
	return patient, func() { stop(); cancel() }
}
