package memory

import (
	"cmp"
	"context"
	"fmt"
	"time"

	observer "github.com/fraiseql/observer"
)

// leased reports whether somebody runs d. A lease is over at LeaseUntil, also
// when nobody else claimed the delivery since.
func leased(d *observer.Delivery, now time.Time) bool { return d.LeaseUntil.After(now) }

func (s *Store) lease(d *observer.Delivery, owner string, lease time.Duration) {
	d.LeaseOwner, d.LeaseUntil = owner, s.clock().Add(lease)
}

func release(d *observer.Delivery) { d.LeaseOwner, d.LeaseUntil = "", time.Time{} }

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds begins a new lease.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.deliveries[key]
	switch {
	case !ok:
		return nil, fmt.Errorf("claim delivery %s: %w", key, observer.ErrNotFound)
	case leased(d, s.clock()) && d.LeaseOwner != owner:
		return nil, fmt.Errorf("claim delivery %s: %w", key, observer.ErrBusy)
	}
	s.lease(d, owner, lease)
	return clone(d), nil
}

// ClaimDue implements [observer.DeliveryStore].
func (s *Store) ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	due := s.sorted(func(d *observer.Delivery) bool {
		return d.State == observer.Scheduled && !d.RunAt.After(now) && !leased(d, now)
	}, func(a, b *observer.Delivery) int { return cmp.Or(a.RunAt.Compare(b.RunAt), oldestFirst(a, b)) })
	due = due[:min(max(limit, 0), len(due))]
	for i, d := range due {
		s.lease(d, owner, lease)
		due[i] = clone(d)
	}
	return due, nil
}

// NextDue implements [observer.DeliveryStore]. Leases of dead letters do not
// count: nothing becomes due when they end.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var next time.Time
	now := s.clock()
	for _, d := range s.deliveries {
		if d.State != observer.Scheduled {
			continue
		}
		at := d.RunAt
		if leased(d, now) {
			at = d.LeaseUntil
		} else if at.IsZero() {
			at = d.CreatedAt // stored without a time: due since it is there
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next, nil
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.held(key, owner)
	if err != nil {
		return fmt.Errorf("extend the lease of delivery %s: %w", key, err)
	}
	s.lease(d, owner, lease)
	return nil
}

// UpdateDelivery implements [observer.DeliveryStore]. It does not change d and
// keeps a copy; CreatedAt stays as stored.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	if err := check(ctx, d); err != nil {
		return fmt.Errorf("update delivery %s: %w", d.Key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, err := s.held(d.Key, owner)
	if err != nil {
		return fmt.Errorf("update delivery %s: %w", d.Key, err)
	}
	stored := clone(d)
	stored.CreatedAt, stored.UpdatedAt = old.CreatedAt, s.clock()
	release(stored)
	s.put(stored)
	return nil
}

// CompleteDelivery implements [observer.DeliveryStore].
func (s *Store) CompleteDelivery(ctx context.Context, key, owner string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.held(key, owner)
	if err != nil {
		return fmt.Errorf("complete delivery %s: %w", key, err)
	}
	s.drop(d)
	return nil
}

// held is the delivery under key if owner's lease on it is running.
func (s *Store) held(key, owner string) (*observer.Delivery, error) {
	d, ok := s.deliveries[key]
	if !ok || !leased(d, s.clock()) || d.LeaseOwner != owner {
		return nil, observer.ErrBusy
	}
	return d, nil
}
