package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"time"

	observer "github.com/fraiseql/observer"
)

// A lease runs while lease_until is after now. Its owner holds it that long and
// no longer, also when nobody else claimed the delivery since. Every statement
// checks and changes the lease in one go, so no two of them see it free.
const (
	// claimDelivery counts a claim unless the owner holds one that runs. A dead
	// letter of a strict lane is on its way again then: nothing that is stored from
	// then on may overtake it until the claim ends. What left the lane before is
	// ahead of it.
	claimDelivery = `
UPDATE tb_delivery SET lease_owner = ?2, lease_until = ?4,
    claims = claims + (lease_until <= ?3),
    lost_at = iif(lease_until <= ?3, claimed_at, lost_at),
    claimed_at = iif(lease_until <= ?3, ?3, claimed_at),
    blocks = iif(state = 'dead' AND ordering = 'strict' AND lane <> '', 1, blocks)
WHERE key = ?1 AND state NOT IN ('done', 'dropped') AND (lease_until <= ?3 OR lease_owner = ?2)
RETURNING ` + columns

	findDelivery = `
SELECT pk_delivery, state, lane, event_id, blocks, lease_owner, lease_until FROM tb_delivery WHERE key = ?`

	extendLease = `
UPDATE tb_delivery SET lease_until = ?4
WHERE key = ?1 AND lease_owner = ?2 AND lease_until > ?3`
)

// ClaimDelivery implements [observer.DeliveryStore]. An owner that claims again
// what it holds prolongs its claim.
func (s *Store) ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*observer.Delivery, error) {
	var d *observer.Delivery
	err := s.write(ctx, "claim delivery "+key, func(tx *session) (err error) {
		now := s.now()
		claim := tx.stmt(claimDelivery).QueryRowContext(tx.ctx, key, owner, micros(now), micros(now.Add(lease))) //nolint:sqlclosecheck // closed with the transaction
		if d, err = scan(claim, now); errors.Is(err, sql.ErrNoRows) {
			return tx.whyNot(key)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return d, nil
}

// whyNot says why a delivery cannot be claimed.
func (s *session) whyNot(key string) error {
	p, _, err := s.find(key)
	switch {
	case err != nil:
		return err
	case p.state == observer.Done, p.state == observer.Dropped:
		return observer.ErrNotFound
	}
	return observer.ErrBusy
}

// lease is who runs a stored delivery until when.
type lease struct {
	owner string
	until int64
}

// find gives [observer.ErrNotFound] when the key is not there.
func (s *session) find(key string) (p place, l lease, err error) {
	found := s.stmt(findDelivery).QueryRowContext(s.ctx, key) //nolint:sqlclosecheck // closed with the transaction
	err = found.Scan(&p.pk, &p.state, &p.lane, &p.eventID, &p.blocks, &l.owner, &l.until)
	if errors.Is(err, sql.ErrNoRows) {
		err = observer.ErrNotFound
	}
	return p, l, err
}

// findFree is find for a change that nobody may run the delivery during.
func (s *session) findFree(key string, now int64) (place, error) {
	p, l, err := s.find(key)
	if err == nil && l.until > now {
		err = observer.ErrBusy
	}
	return p, err
}

// ExtendLease implements [observer.DeliveryStore]. The lease then ends lease
// from now.
func (s *Store) ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error {
	return s.write(ctx, "extend the lease of delivery "+key, func(tx *session) error {
		now := s.now()
		n, err := tx.exec(extendLease, key, owner, micros(now), micros(now.Add(lease)))
		if err == nil && n == 0 {
			err = observer.ErrBusy
		}
		return err
	})
}
