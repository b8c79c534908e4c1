package postgres

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

// A lease runs while lease_until is after the clock. Its owner holds it that
// long and no longer, also when nobody else claimed the delivery since. Every
// statement checks and changes the lease in one go; one that waited for another
// checks again, with a new look at the clock.
const (
	leaseEnd = clock + " + $3::bigint * interval '1 microsecond'"

	// claimDelivery begins a claim, or prolongs that of the same owner: nothing
	// was lost in between then. It leaves alone what claimDead is for.
	claimDelivery = "UPDATE {{schema}}.tb_delivery SET " + claimSet + claimWhere + " AND NOT " + redriven + `
RETURNING ` + columns

	// claimDead claims a dead letter of a strict lane, which is on its way again
	// then: nothing that is stored from then on may overtake it until the claim
	// ends. What left the lane before is ahead of it.
	claimDead = "UPDATE {{schema}}.tb_delivery SET blocks = true, " + claimSet + claimWhere + " AND lane = $5 AND " + redriven + `
RETURNING ` + columns

	redriven = `(state = 'dead' AND ordering = 'strict' AND lane <> '')`

	claimSet = `lease_owner = $4, lease_until = ` + leaseEnd + `,
    claims = CASE WHEN ` + held + ` THEN claims ELSE claims + 1 END,
    lost_at = CASE WHEN ` + held + ` THEN lost_at ELSE claimed_at END,
    claimed_at = CASE WHEN ` + held + ` THEN claimed_at ELSE ` + clock + ` END
`
	claimWhere = `WHERE key = $2 AND state NOT IN ('done', 'dropped') AND (lease_until <= ` + clock + ` OR lease_owner = $4)`

	held = "lease_until > " + clock

	extendLease = `
UPDATE {{schema}}.tb_delivery SET lease_until = ` + leaseEnd + `
WHERE key = $2 AND lease_owner = $4 AND ` + held
)

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds prolongs its claim.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	what := "claim delivery " + key
	short, _ := s.texts.key(key)
	var claimed []*observer.Delivery
	read := func(rows pgx.Rows) (err error) {
		claimed, err = scanAll(rows)
		return err
	}
	err := s.change(ctx, what, func(c *change) {
		c.rows(read, claimDelivery, s.clockNow(), short, lease.Microseconds(), s.texts.encode(owner))
	})
	if err != nil {
		return nil, err
	}
	if len(claimed) == 0 {
		err = s.inLane(ctx, key, func(c *change, short, lane string) {
			c.rows(read, claimDead, s.clockNow(), short, lease.Microseconds(), s.texts.encode(owner), lane)
		})
	}
	if err == nil && len(claimed) == 0 {
		err = s.notChanged(ctx, key, observer.Queued, observer.Scheduled, observer.Unknown, observer.Parked, observer.Dead)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return claimed[0], nil
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	what := "extend the lease of delivery " + key
	short, _ := s.texts.key(key)
	var changed int64
	err := s.change(ctx, what, func(c *change) {
		c.exec(&changed, extendLease, s.clockNow(), short, lease.Microseconds(), s.texts.encode(owner))
	})
	if err == nil && changed == 0 {
		err = fmt.Errorf("%s: %w", what, observer.ErrBusy)
	}
	return err
}
