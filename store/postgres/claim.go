package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

// A lease runs while lease_until is after the clock. Its owner holds it that
// long and no longer, also when nobody else claimed the delivery since. Every
// statement checks and changes the lease in one go; one that waited for another
// checks again, with a new look at the clock.
const (
	leaseEnd = clock + " + $3::bigint * interval '1 microsecond'"

	holdsLease = "key = $2 AND lease_owner = $4 AND lease_until > " + clock

	claimDelivery = `
UPDATE {{schema}}.tb_delivery SET lease_owner = $4, lease_until = ` + leaseEnd + `
WHERE key = $2 AND (lease_until <= ` + clock + ` OR lease_owner = $4)
RETURNING ` + columns

	// byIndex is for claimDue: while the table has no statistics yet the planner
	// might read and sort all that is due.
	byIndex = "SELECT set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true)"

	// The clock is read once, which also lets the index bound run_at.
	claimDue = `
WITH due AS MATERIALIZED (
    SELECT key FROM {{schema}}.tb_delivery
    WHERE state = 'scheduled' AND run_at <= (SELECT ` + clock + `) AND lease_until <= (SELECT ` + clock + `)
    ORDER BY run_at, created_at LIMIT $4
    FOR NO KEY UPDATE SKIP LOCKED)
UPDATE {{schema}}.tb_delivery SET lease_owner = $2, lease_until = ` + leaseEnd + `
WHERE key = ANY (ARRAY(SELECT key FROM due))
RETURNING ` + columns

	extendLease = `UPDATE {{schema}}.tb_delivery SET lease_until = ` + leaseEnd + ` WHERE ` + holdsLease

	updateDelivery = `
UPDATE {{schema}}.tb_delivery SET state = $5, observer = $6, action = $7, action_type = $8, reason = $9, run_at = $10,
    updated_at = ` + clock + `, lease_owner = '', lease_until = '-infinity', error = $11, attempts = $12, request = $13,
    event = $14, malformed = $15, data = $16, before = $3
WHERE ` + holdsLease

	completeDelivery = `DELETE FROM {{schema}}.tb_delivery WHERE key = $2 AND lease_owner = $3 AND lease_until > ` + clock

	// The first due delivery that nobody runs: the index gives them in order,
	// and the leased ones it passes over are few. Only those it passed over can
	// become due before it, at the end of their leases.
	nextDue = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now),
free AS MATERIALIZED (
    SELECT run_at FROM {{schema}}.tb_delivery
    WHERE state = 'scheduled' AND lease_until <= (SELECT now FROM clock)
    ORDER BY run_at LIMIT 1)
SELECT (SELECT run_at FROM free), (
    SELECT min(lease_until) FROM {{schema}}.tb_delivery
    WHERE state = 'scheduled' AND lease_until > (SELECT now FROM clock)
        AND run_at < coalesce((SELECT run_at FROM free), 'infinity'))`
)

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds begins a new lease.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	what := "claim delivery " + key
	short, _ := s.texts.key(key)
	claimed, err := s.claim(ctx, what, claimDelivery, s.clockNow(), short, lease.Microseconds(), s.texts.encode(owner))
	if err != nil {
		return nil, err
	}
	if len(claimed) == 0 {
		return nil, s.missingOrBusy(ctx, what, key)
	}
	return claimed[0], nil
}

// ClaimDue implements [observer.DeliveryStore]. Of deliveries due in the same
// microsecond those stored first come first.
func (s *Store) ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]*observer.Delivery, error) {
	if limit <= 0 {
		return nil, ctx.Err()
	}
	claimed, err := s.claim(ctx, "claim due deliveries", claimDue, s.clockNow(), s.texts.encode(owner), lease.Microseconds(), limit)
	if err != nil {
		return nil, err
	}
	// RETURNING has no order.
	slices.SortFunc(claimed, func(a, b *observer.Delivery) int {
		return cmp.Or(a.RunAt.Compare(b.RunAt), a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Key, b.Key))
	})
	return claimed, nil
}

func (s *Store) claim(ctx context.Context, what, sql string, args ...any) (claimed []*observer.Delivery, err error) {
	err = s.change(ctx, what, func(c *change) {
		if sql == claimDue {
			c.exec(new(int64), byIndex)
		}
		c.rows(func(rows pgx.Rows) (err error) {
			claimed, err = scanAll(rows)
			return err
		}, sql, args...)
	})
	return claimed, err
}

// NextDue implements [observer.DeliveryStore]. Leases of dead letters do not
// count: nothing becomes due when they end. Neither do those of deliveries that
// are due later than the next free one.
func (s *Store) NextDue(ctx context.Context) (time.Time, error) {
	var free, leaseEnd pgtype.Timestamptz
	err := s.query(ctx, func(ctx context.Context) error {
		return s.row(ctx, nextDue, s.clockNow()).Scan(&free, &leaseEnd)
	})
	if err != nil {
		return time.Time{}, fmt.Errorf("find the next due delivery: %w", err)
	}
	next := timeOf(free)
	if free.Valid && next.IsZero() {
		next = time.Unix(0, 0).UTC() // stored without a time: due, not absent
	}
	if end := timeOf(leaseEnd); !end.IsZero() && (next.IsZero() || end.Before(next)) {
		next = end
	}
	return next, nil
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	short, _ := s.texts.key(key)
	return s.owned(ctx, "extend the lease of delivery "+key, extendLease,
		s.clockNow(), short, lease.Microseconds(), s.texts.encode(owner))
}

// UpdateDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it; CreatedAt stays as stored.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	what := "update delivery " + d.Key
	r, err := s.texts.row(d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	short, _ := s.texts.key(d.Key)
	return s.owned(ctx, what, updateDelivery, s.clockNow(), short, r.before, s.texts.encode(owner),
		r.state, r.observer, r.action, r.actionType, r.reason, r.runAt,
		r.err, r.attempts, r.request, r.event, r.malformed, r.data)
}

// CompleteDelivery implements [observer.DeliveryStore].
func (s *Store) CompleteDelivery(ctx context.Context, key, owner string) error {
	short, _ := s.texts.key(key)
	return s.owned(ctx, "complete delivery "+key, completeDelivery, s.clockNow(), short, s.texts.encode(owner))
}

// owned makes a change that needs the lease: no row changed means that the
// owner does not hold it.
func (s *Store) owned(ctx context.Context, what, sql string, args ...any) error {
	var changed int64
	err := s.change(ctx, what, func(c *change) { c.exec(&changed, sql, args...) })
	if err == nil && changed == 0 {
		err = fmt.Errorf("%s: %w", what, observer.ErrBusy)
	}
	return err
}
