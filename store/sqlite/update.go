package sqlite

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	observer "github.com/fraiseql/observer"
)

const (
	// updateDelivery changes no row of another owner, and none that blocks its
	// lane unless ?34 is 1. The owner stays: what is asked for once more because its
	// answer was lost is known by it.
	updateDelivery = `
UPDATE tb_delivery SET (` + stored + `) = (` + storedArgs + `),
    due_at = iif(?30, iif(?6 = 0, created_at, ?6), NULL),
    updated_at = ?33, lease_until = 0, claims = 0, claimed_at = 0, lost_at = 0
WHERE key = ?31 AND lease_owner = ?32 AND lease_until > ?33 AND blocks <= ?34`

	// repeats: the owner had stored this before. What it had parked may be queued
	// since.
	repeats = `
SELECT count(*) FROM tb_delivery
WHERE key = ?1 AND lease_owner = ?2 AND ?2 <> '' AND lease_until = 0 AND attempts = ?4
    AND (state = ?3 OR ?3 = 'parked' AND state = 'queued')`

	requeueDelivery = `
UPDATE tb_delivery SET state = ?2, run_at = ?3, updated_at = ?4, redrives = redrives + (state = 'dead'),
    due_at = iif(?2 = 'queued', iif(?3 = 0, created_at, ?3), NULL),
    blocks = iif(?2 = 'parked', 1, blocks_queued)
WHERE pk_delivery = ?1`

	removeDelivery = `DELETE FROM tb_delivery WHERE pk_delivery = ?`
)

// UpdateDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it; CreatedAt stays as stored. What is put back
// Parked is queued when its lane went free in the meantime.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	what := "update delivery " + d.Key
	err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Parked,
		observer.Done, observer.Dropped, observer.Dead)
	var r row
	if err == nil {
		r, err = encode(d)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.write(ctx, what, func(tx *session) error {
		now := micros(s.now())
		args := append(r.args(), d.Key, owner, now)
		// Most block nothing, before or after: one statement does.
		n, err := tx.exec(updateDelivery, append(args, 0)...)
		if err != nil || n == 1 && d.State != observer.Parked {
			return err
		}
		err = tx.updateLane(d, n == 1, now, append(args, 1))
		if errors.Is(err, observer.ErrBusy) {
			return tx.repeated(d.Key, owner, &r)
		}
		return err
	})
}

// repeated gives [observer.ErrBusy] unless owner stored r before.
func (s *session) repeated(key, owner string, r *row) error {
	var n int
	err := s.stmt(repeats).QueryRowContext(s.ctx, key, owner, r.state, r.Attempts).Scan(&n) //nolint:sqlclosecheck // closed with the transaction
	if err == nil && n == 0 {
		err = observer.ErrBusy
	}
	return err
}

// updateLane updates, unless that is done, a delivery that blocks its lane, and
// has the lane go on.
func (s *session) updateLane(d *observer.Delivery, done bool, now int64, args []any) error {
	before, _, err := s.find(d.Key)
	if errors.Is(err, observer.ErrNotFound) {
		return observer.ErrBusy
	}
	if err != nil {
		return err
	}
	if !done {
		if n, err := s.exec(updateDelivery, args...); err != nil || n == 0 {
			return cmp.Or(err, observer.ErrBusy)
		}
	}
	if d.State == observer.Parked {
		if err := s.unpark(d.Key, now); err != nil {
			return err
		}
	}
	if !before.blocks || before.lane == "" {
		return nil
	}
	return s.release(before.lane, now)
}

// unpark queues a parked delivery that has nothing to wait for.
func (s *session) unpark(key string, now int64) error {
	p, _, err := s.find(key)
	if err != nil {
		return err
	}
	blocked, err := s.blockedAt(&p)
	if err != nil || blocked {
		return err
	}
	_, err = s.exec(queueDelivery, p.pk, now)
	return err
}

// RequeueDelivery implements [observer.DeliveryStore]. What waits for a retry is
// never parked: it is on its way.
func (s *Store) RequeueDelivery(ctx context.Context, key string, at time.Time) (state observer.State, err error) {
	err = s.write(ctx, "requeue delivery "+key, func(tx *session) (err error) {
		now := micros(s.now())
		p, err := tx.findFree(key, now)
		if err != nil {
			return err
		}
		if state, err = tx.requeued(&p); err != nil {
			return err
		}
		if _, err := tx.exec(requeueDelivery, p.pk, string(state), micros(at), now); err != nil || !p.blocks {
			return err
		}
		if err := tx.release(p.lane, now); err != nil {
			return err
		}
		// What was before it may have kept nobody waiting, and itself with them.
		p, _, err = tx.find(key)
		state = p.state
		return err
	})
	if err != nil {
		return "", err
	}
	return state, nil
}

// requeued is the state that a requeued delivery gets.
func (s *session) requeued(p *place) (observer.State, error) {
	switch p.state {
	case observer.Scheduled, observer.Unknown:
		return observer.Queued, nil
	case observer.Dead:
		blocked, err := s.blockedAt(p)
		if blocked {
			return observer.Parked, err
		}
		return observer.Queued, err
	default:
		return "", observer.ErrNotFound
	}
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	return s.write(ctx, "remove delivery "+key, func(tx *session) error {
		now := micros(s.now())
		p, err := tx.findFree(key, now)
		if err != nil {
			return err
		}
		if _, err := tx.exec(removeDelivery, p.pk); err != nil || !p.blocks {
			return err
		}
		return tx.release(p.lane, now)
	})
}
