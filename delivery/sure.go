package delivery

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
)

// sure is until when a claim cannot be anybody else's, by the clock of this
// process: the time of the lease from when it was asked for, less a fifth for
// clocks that do not run equally fast.
type sure struct{ until atomic.Pointer[time.Time] }

func (s *sure) extend(asked time.Time, lease time.Duration) {
	until := asked.Add(lease - lease/5)
	s.until.Store(&until)
}

func (p process) newSure() *sure {
	s := &sure{}
	asked := p.claimed
	if asked.IsZero() {
		asked = time.Now()
	}
	s.extend(asked, p.lease)
	return s
}

// extend extends the lease of a claim.
func (p process) extend(ctx context.Context, s *sure, key string) error {
	asked := time.Now()
	err := p.store.ExtendLease(ctx, key, p.owner, p.lease)
	if err == nil {
		s.extend(asked, p.lease)
	}
	return err
}

// fence is asked before each attempt. A process that was paused for longer than
// the lease finds out here whether somebody else has the delivery by now.
func (p process) fence(ctx context.Context, s *sure, key string) error {
	if time.Now().Before(*s.until.Load()) {
		return nil
	}
	if err := p.extend(ctx, s, key); err != nil {
		return fmt.Errorf("%w: the claim of delivery %s ran out while this process was paused or the store was away: %w", observer.ErrFenced, key, err)
	}
	return nil
}
