package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// A lease runs while lease_until is after now. Its owner holds it that long and
// no longer, also when nobody else claimed the delivery since. Every statement
// checks and changes the lease in one go, so no two of them see it free.
const (
	claimDelivery = `
UPDATE tb_delivery SET lease_owner = ?2, lease_until = ?4
WHERE key = ?1 AND (lease_until <= ?3 OR lease_owner = ?2)
RETURNING ` + columns

	claimDue = `
UPDATE tb_delivery SET lease_owner = ?1, lease_until = ?3
WHERE pk_delivery IN (
    SELECT pk_delivery FROM tb_delivery
    WHERE state = 'scheduled' AND run_at <= ?2 AND lease_until <= ?2
    ORDER BY run_at, created_at, key LIMIT ?4)
RETURNING ` + columns

	extendLease = `
UPDATE tb_delivery SET lease_until = ?4
WHERE key = ?1 AND lease_owner = ?2 AND lease_until > ?3`

	updateDelivery = `
UPDATE tb_delivery SET state = ?4, observer = ?5, action = ?6, action_type = ?7, reason = ?8, run_at = ?9,
    updated_at = ?3, lease_owner = '', lease_until = 0, error = ?10, attempts = ?11, request = ?12,
    event = ?13, malformed = ?14, data = ?15, before = ?16
WHERE key = ?1 AND lease_owner = ?2 AND lease_until > ?3`

	completeDelivery = `
DELETE FROM tb_delivery WHERE key = ?1 AND lease_owner = ?2 AND lease_until > ?3`

	// The first due delivery that nobody runs: the index gives them in order,
	// and the leased ones it passes over are few.
	firstFree = `
SELECT run_at FROM tb_delivery WHERE state = 'scheduled' AND lease_until <= ?1
ORDER BY run_at LIMIT 1`

	firstLease = `
SELECT lease_until FROM tb_delivery WHERE lease_until > 0 AND lease_until > ?1 AND state = 'scheduled'
ORDER BY lease_until LIMIT 1`
)

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds begins a new lease.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	var claimed []*observer.Delivery
	err := s.write(ctx, "claim delivery "+key, func(tx *session) (err error) {
		now := s.now()
		if claimed, err = s.claim(tx, claimDelivery, key, owner, micros(now), micros(now.Add(lease))); err != nil {
			return err
		}
		if len(claimed) == 0 {
			return tx.missingOrBusy(key)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed[0], nil
}

// ClaimDue implements [observer.DeliveryStore].
func (s *Store) ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]*observer.Delivery, error) {
	if limit <= 0 {
		return nil, nil // SQLite takes a negative limit for none
	}
	var claimed []*observer.Delivery
	err := s.write(ctx, "claim due deliveries", func(tx *session) (err error) {
		now := s.now()
		claimed, err = s.claim(tx, claimDue, owner, micros(now), micros(now.Add(lease)), limit)
		return err
	})
	if err != nil {
		return nil, err
	}
	// RETURNING has no order.
	slices.SortFunc(claimed, func(a, b *observer.Delivery) int {
		return cmp.Or(a.RunAt.Compare(b.RunAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Key, b.Key))
	})
	return claimed, nil
}

func (s *Store) claim(tx *session, query string, args ...any) ([]*observer.Delivery, error) {
	rows, err := tx.query(query, args...)
	if err != nil {
		return nil, err
	}
	return s.scanAll(rows)
}

// NextDue implements [observer.DeliveryStore]. Leases of dead letters do not
// count: nothing becomes due when they end.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	now := micros(s.now())
	var next time.Time
	for _, query := range []string{firstFree, firstLease} {
		var at int64
		err := s.read.QueryRowContext(ctx, query, now).Scan(&at)
		if errors.Is(err, sql.ErrNoRows) {
			continue
		}
		if err != nil {
			return time.Time{}, fmt.Errorf("find the next due delivery: %w", s.explain(err))
		}
		// Not fromMicros: a delivery stored without a time is due, not absent.
		if t := time.UnixMicro(at).UTC(); next.IsZero() || t.Before(next) {
			next = t
		}
	}
	return next, nil
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	return s.writeOwned(ctx, "extend the lease of delivery "+key, func(tx *session) (int64, error) {
		now := s.now()
		return tx.exec(extendLease, key, owner, micros(now), micros(now.Add(lease)))
	})
}

// UpdateDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it; CreatedAt stays as stored.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	what := "update delivery " + d.Key
	r, err := encode(d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.writeOwned(ctx, what, func(tx *session) (int64, error) {
		return tx.exec(updateDelivery, d.Key, owner, micros(s.now()), r.state, r.observer, r.action, r.actionType,
			r.reason, r.runAt, r.err, r.attempts, r.request, r.event, r.malformed, r.data, r.before)
	})
}

// CompleteDelivery implements [observer.DeliveryStore].
func (s *Store) CompleteDelivery(ctx context.Context, key, owner string) error {
	return s.writeOwned(ctx, "complete delivery "+key, func(tx *session) (int64, error) {
		return tx.exec(completeDelivery, key, owner, micros(s.now()))
	})
}

// writeOwned makes a change that needs the lease: no row changed means that the
// owner does not hold it.
func (s *Store) writeOwned(ctx context.Context, what string, run func(*session) (int64, error)) error {
	return s.write(ctx, what, func(tx *session) error {
		n, err := run(tx)
		if err == nil && n == 0 {
			err = observer.ErrBusy
		}
		return err
	})
}
