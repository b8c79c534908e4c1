package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	observer "github.com/fraiseql/observer"
)

// A lane is blocked by rows that are on their way (blocks = 1, not parked) and
// by those that are parked. The two have indexes of their own, so that a long
// lane is not read to find out whether anything in it is on its way. All changes
// are made by one writer of one process at a time: between such a check and the
// change after it nothing happens.
const (
	// laneBlocked: what comes last in the lane has to wait.
	laneBlocked = `
SELECT EXISTS (SELECT 1 FROM tb_delivery WHERE lane = ?1 AND blocks = 1 AND state <> 'parked' AND event_id <> ?2)
    OR EXISTS (SELECT 1 FROM tb_delivery WHERE lane = ?1 AND state = 'parked' AND event_id <> ?2)`

	// placeBlocked: what may have others parked behind it has to wait, for what is
	// on its way and for what is parked before it.
	placeBlocked = `
SELECT EXISTS (SELECT 1 FROM tb_delivery WHERE lane = ?1 AND blocks = 1 AND state <> 'parked' AND event_id <> ?2)
    OR EXISTS (SELECT 1 FROM tb_delivery WHERE lane = ?1 AND state = 'parked' AND pk_delivery < ?3 AND event_id <> ?2)`

	// queued ends parking: due now, unless its own time is later.
	queued = `state = 'queued', updated_at = ?2, run_at = max(run_at, ?2), due_at = max(run_at, ?2),
    blocks = blocks_queued`

	queueDelivery = `UPDATE tb_delivery SET ` + queued + ` WHERE pk_delivery = ?1 AND state = 'parked'`

	// releaseLane queues the first event of a lane in which nothing is on its way.
	releaseLane = `
UPDATE tb_delivery SET ` + queued + `
WHERE lane = ?1 AND state = 'parked'
    AND event_id = (SELECT event_id FROM tb_delivery WHERE lane = ?1 AND state = 'parked' ORDER BY pk_delivery LIMIT 1)
    AND NOT EXISTS (SELECT 1 FROM tb_delivery WHERE lane = ?1 AND blocks = 1 AND state <> 'parked')`

	// abandoned are the lanes that dead letters block because somebody ran them, and
	// died. Mostly that is a look into an empty index.
	abandoned   = `SELECT DISTINCT lane FROM tb_delivery WHERE ` + isAbandoned
	unblock     = `UPDATE tb_delivery SET blocks = 0 WHERE ` + isAbandoned + ` AND lane = ?2`
	isAbandoned = `state = 'dead' AND blocks = 1 AND block_when_dead = 0 AND lease_until <= ?1`

	// stuckLanes steps from lane to lane in the index, however many are parked in
	// each.
	stuckLanes = `
WITH RECURSIVE parked (lane) AS (
    SELECT min(lane) FROM tb_delivery WHERE state = 'parked'
    UNION ALL
    SELECT (SELECT min(lane) FROM tb_delivery WHERE state = 'parked' AND lane > parked.lane)
    FROM parked WHERE lane IS NOT NULL)
SELECT lane FROM parked
WHERE lane IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM tb_delivery d WHERE d.lane = parked.lane AND d.blocks = 1 AND d.state <> 'parked')`
)

// Blocked implements [observer.DeliveryStore].
func (s *Store) Blocked(ctx context.Context, lane, eventID string) (bool, error) {
	if lane == "" {
		return false, ctx.Err()
	}
	var blocked bool
	if err := s.read.QueryRowContext(ctx, laneBlocked, lane, eventID).Scan(&blocked); err != nil {
		return false, fmt.Errorf("look into lane %s: %w", lane, s.explain(err))
	}
	return blocked, nil
}

func (s *session) blocked(lane, eventID string) (blocked bool, err error) {
	err = s.stmt(laneBlocked).QueryRowContext(s.ctx, lane, eventID).Scan(&blocked) //nolint:sqlclosecheck // closed with the transaction
	return blocked, err
}

// place is where a stored delivery is, for the rules of lanes.
type place struct {
	pk            int64
	state         observer.State
	lane, eventID string
	blocks        bool
}

// blockedAt reports whether the delivery at p has to wait.
func (s *session) blockedAt(p *place) (blocked bool, err error) {
	if p.lane == "" {
		return false, nil
	}
	err = s.stmt(placeBlocked).QueryRowContext(s.ctx, p.lane, p.eventID, p.pk).Scan(&blocked) //nolint:sqlclosecheck // closed with the transaction
	return blocked, err
}

// release has the next event of a lane go on when nothing is on its way there
// any more, and those after it as long as what was queued keeps nobody waiting.
func (s *session) release(lane string, now int64) error {
	for {
		n, err := s.exec(releaseLane, lane, now)
		if err != nil || n == 0 {
			return err
		}
	}
}

// unblock has those lanes go on that are blocked by claims of dead letters that
// ended without an outcome.
func (s *Store) unblock(ctx context.Context) error {
	now := micros(s.now())
	return s.goOn(ctx, "end claims of dead letters", func(tx *session, lane string) error {
		_, err := tx.exec(unblock, now, lane)
		return err
	}, abandoned, now)
}

// releaseStuck has those lanes go on that nothing blocks: somebody changed or
// removed what did, past the store.
func (s *Store) releaseStuck(ctx context.Context) error {
	return s.goOn(ctx, "queue parked deliveries", func(*session, string) error { return nil }, stuckLanes)
}

// goOn releases the lanes that a query gives, after a change of each.
func (s *Store) goOn(ctx context.Context, what string, change func(tx *session, lane string) error, query string, args ...any) error {
	lanes, err := s.lanes(ctx, query, args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, s.explain(err))
	}
	if len(lanes) == 0 {
		return nil
	}
	return s.write(ctx, what, func(tx *session) error {
		now := micros(s.now())
		for _, lane := range lanes {
			if err := change(tx, lane); err != nil {
				return err
			}
			if err := tx.release(lane, now); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *Store) lanes(ctx context.Context, query string, args ...any) (lanes []string, err error) {
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var lane string
		err := rows.Scan(&lane)
		lanes = append(lanes, lane)
		return err
	}, query, args...)
	return lanes, err
}
