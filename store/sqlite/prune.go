package sqlite

import (
	"context"
	"errors"

	observer "github.com/fraiseql/observer"
)

const (
	pruneDone = `
DELETE FROM tb_delivery WHERE pk_delivery IN (
    SELECT pk_delivery FROM tb_delivery
    WHERE state IN ('done', 'dropped') AND updated_at < ?1 AND lease_until <= ?2
    ORDER BY updated_at, pk_delivery LIMIT ?3)`

	pruneDead = `
DELETE FROM tb_delivery WHERE pk_delivery IN (
    SELECT pk_delivery FROM tb_delivery
    WHERE state = 'dead' AND blocks = 0 AND updated_at < ?1 AND lease_until <= ?2
    ORDER BY updated_at, pk_delivery LIMIT ?3)`
)

// PruneDeliveries implements [observer.DeliveryStore]. Those go first that were
// updated first. Lanes are looked at once there is nothing left to remove.
func (s *Store) PruneDeliveries(ctx context.Context, r observer.Retention, limit int) (removed int, err error) {
	failed := s.unblock(ctx)
	if limit > 0 {
		err = s.write(ctx, "prune deliveries", func(tx *session) (err error) {
			removed, err = tx.prune(r, limit, micros(s.now()))
			return err
		})
		if err != nil {
			return 0, errors.Join(failed, err)
		}
	}
	if removed > 0 && removed == limit {
		return removed, failed
	}
	return removed, errors.Join(failed, s.releaseStuck(ctx))
}

func (s *session) prune(r observer.Retention, limit int, now int64) (removed int, err error) {
	// A zero time is 0, before which nothing was updated.
	done, err := s.exec(pruneDone, micros(r.DoneBefore), now, limit)
	if err != nil || int(done) == limit {
		return int(done), err
	}
	dead, err := s.exec(pruneDead, micros(r.DeadBefore), now, limit-int(done))
	return int(done + dead), err
}
