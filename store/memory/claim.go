package memory

import (
	"context"
	"fmt"
	"time"

	observer "github.com/fraiseql/observer"
)

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds prolongs its claim.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[key]
	now := s.clock()
	switch {
	case !ok, r.State == observer.Done, r.State == observer.Dropped:
		return nil, fmt.Errorf("claim delivery %s: %w", key, observer.ErrNotFound)
	case r.leased(now) && r.LeaseOwner != owner:
		return nil, fmt.Errorf("claim delivery %s: %w", key, observer.ErrBusy)
	}
	r.claim(owner, now, now.Add(lease))
	if r.State == observer.Dead && r.Order == observer.OrderStrict {
		r.redriven = true
		s.index(r, r.State)
	}
	return r.show(now), nil
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(key, owner)
	if err != nil {
		return fmt.Errorf("extend the lease of delivery %s: %w", key, err)
	}
	r.LeaseUntil = s.clock().Add(lease)
	return nil
}

// UpdateDelivery implements [observer.DeliveryStore]. It does not change d and
// keeps a copy; CreatedAt stays as stored. What is put back Parked is queued
// when its lane went free in the meantime.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Parked,
		observer.Done, observer.Dropped, observer.Dead); err != nil {
		return fmt.Errorf("update delivery %s: %w", d.Key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.held(d.Key, owner)
	if known := s.rows[d.Key]; err != nil && known != nil && known.repeats(d, owner) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("update delivery %s: %w", d.Key, err)
	}
	created, before, lane := r.CreatedAt, r.State, r.lane
	r.Delivery, r.claims, r.redriven, r.settledBy = clone(d), 0, false, owner
	unclaim(r.Delivery)
	r.CreatedAt, r.UpdatedAt = created, s.clock()
	s.index(r, before)
	s.release(lane)
	return nil
}

// held is the row under key if owner's lease on it is running.
func (s *Store) held(key, owner string) (*row, error) {
	r, ok := s.rows[key]
	if !ok || !r.leased(s.clock()) || r.LeaseOwner != owner {
		return nil, observer.ErrBusy
	}
	return r, nil
}

// RequeueDelivery implements [observer.DeliveryStore]. What waits for a retry is
// never parked: it is on its way.
func (s *Store) RequeueDelivery(ctx context.Context, key string, at time.Time) (observer.State, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[key]
	switch {
	case ok && r.leased(s.clock()):
		return "", fmt.Errorf("requeue delivery %s: %w", key, observer.ErrBusy)
	case !ok, r.State != observer.Dead && r.State != observer.Scheduled && r.State != observer.Unknown:
		return "", fmt.Errorf("requeue delivery %s: %w", key, observer.ErrNotFound)
	}
	before, lane := r.State, r.lane
	if r.State = observer.Queued; before == observer.Dead {
		r.Redrives++
		if s.blockedAtItsPlace(r) {
			r.State = observer.Parked
		}
	}
	r.RunAt, r.UpdatedAt, r.redriven = at, s.clock(), false
	s.index(r, before)
	s.release(lane)
	return r.State, nil
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[key]
	switch {
	case !ok:
		return fmt.Errorf("remove delivery %s: %w", key, observer.ErrNotFound)
	case r.leased(s.clock()):
		return fmt.Errorf("remove delivery %s: %w", key, observer.ErrBusy)
	}
	lane := r.lane
	s.drop(r)
	s.release(lane)
	return nil
}

func (s *Store) drop(r *row) {
	s.unlink(r)
	s.countDead(r.State, -1)
	delete(s.rows, r.Key)
}
