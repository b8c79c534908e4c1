package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// What changes a lane (stores, finishes, requeues or removes one of its rows)
// locks it first, until the end of its transaction. A later statement of the
// same transaction, which sees everything committed by then, decides what is
// parked or released. The locks are taken in one order, so that changes of
// several lanes cannot wait for each other in a circle. A change of very many
// lanes locks all of them at once: the server has a limited number of locks.
const (
	maxLaneLocks = 256

	lockLanes = `
SELECT pg_advisory_xact_lock(h) FROM (
    SELECT DISTINCT hashtextextended(lane COLLATE "C", $1) AS h FROM unnest($2::text[]) AS lane ORDER BY 1) AS sorted`

	lockShared = "SELECT pg_advisory_xact_lock_shared($1)"
	lockAlone  = "SELECT pg_advisory_xact_lock($1)"

	// underWay is what blocks a lane and is not parked itself. The states are
	// listed for the index.
	underWay = `state IN ('queued', 'scheduled', 'unknown', 'dead')`

	// release queues the parked deliveries of the next event of each lane in which
	// nothing is under way. They are due now, unless their own time is later. An
	// event whose deliveries are not next to each other is rare, so they are
	// looked for among the first thousand.
	release = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now),
lane AS (SELECT DISTINCT name COLLATE "C" AS name FROM unnest($2::text[]) AS name),
next AS MATERIALIZED (
    SELECT parked.key FROM lane
    CROSS JOIN LATERAL (
        SELECT event_id FROM {{schema}}.tb_delivery AS d
        WHERE d.blocks AND d.lane = lane.name AND d.state = 'parked' ORDER BY d.ordinal LIMIT 1) AS first
    CROSS JOIN LATERAL (
        SELECT d.key, d.event_id FROM {{schema}}.tb_delivery AS d
        WHERE d.blocks AND d.lane = lane.name AND d.state = 'parked' ORDER BY d.ordinal LIMIT 1000) AS parked
    WHERE parked.event_id = first.event_id AND NOT EXISTS (
        SELECT FROM {{schema}}.tb_delivery AS d WHERE d.blocks AND d.lane = lane.name AND d.` + underWay + `))
UPDATE {{schema}}.tb_delivery AS d
SET state = 'queued', run_at = greatest(run_at, now), updated_at = now, blocks = ordering = 'strict' OR attempts = '[]'
FROM next, clock
WHERE d.key = next.key AND d.state = 'parked'
RETURNING d.queue, d.endpoint, d.priority, d.due_at, d.lane, d.blocks`

	// unpark queues what was put back as parked although its lane went free.
	unpark = `
UPDATE {{schema}}.tb_delivery AS d
SET state = 'queued', run_at = greatest(run_at, ` + clock + `), blocks = ordering = 'strict' OR attempts = '[]'
WHERE d.key = ANY ($2::text[]) AND d.state = 'parked' AND NOT ` + waits + `
RETURNING d.queue, d.endpoint, d.priority, d.due_at, d.lane, d.blocks`

	// waits is whether d, which may have others parked behind it, has to wait at
	// its place: for what is under way, and for what is parked before it.
	waits = `(EXISTS (
        SELECT FROM {{schema}}.tb_delivery AS o
        WHERE d.lane <> '' AND o.blocks AND o.lane = d.lane AND o.event_id <> d.event_id AND o.` + underWay + `)
    OR EXISTS (
        SELECT FROM {{schema}}.tb_delivery AS o
        WHERE d.lane <> '' AND o.blocks AND o.lane = d.lane AND o.event_id <> d.event_id AND o.state = 'parked' AND o.ordinal < d.ordinal))`

	blocked = `
SELECT EXISTS (SELECT FROM {{schema}}.tb_delivery WHERE blocks AND lane = $1 AND event_id <> $2)`
)

// Blocked implements [observer.DeliveryStore].
func (s *Store) Blocked(ctx context.Context, lane, eventID string) (bool, error) {
	var is bool
	err := s.look(ctx, func(c *change) {
		c.rows(func(rows pgx.Rows) (err error) {
			is, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[bool])
			return err
		}, blocked, s.texts.lane(lane), s.texts.encode(eventID))
	})
	if err != nil {
		return false, fmt.Errorf("look into lane %s: %w", lane, err)
	}
	return is, nil
}

// lockLanes locks lanes, "" excepted, until the end of the transaction.
func (s *Store) lockLanes(c *change, lanes []string) {
	all := s.schema.lockID("all lanes")
	switch {
	case len(lanes) == 0:
	case len(lanes) > maxLaneLocks:
		c.run(lockAlone, all)
	default:
		c.run(lockShared, all)
		c.run(lockLanes, s.schema.lockID("lanes"), lanes)
	}
}

// freed is a row that a release queued.
type freed struct {
	band   bandKey
	due    pgtype.Timestamptz
	lane   string
	blocks bool
}

// release adds the statement that queues what waits for nothing any more.
func (s *Store) release(c *change, into *[]freed, lanes []string) {
	if len(lanes) > 0 {
		c.rows(freedRows(into), release, s.clockNow(), lanes)
	}
}

func freedRows(into *[]freed) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var f freed
		_, err := pgx.ForEachRow(rows, []any{&f.band.queue, &f.band.endpoint, &f.band.priority, &f.due, &f.lane, &f.blocks}, func() error {
			*into = append(*into, f)
			return nil
		})
		return err
	}
}

// settle takes note of what was released, and goes on with the lanes that this
// did not occupy: deliveries that keep nobody waiting leave one after the other.
// When that fails, pruning does it later.
func (s *Store) settle(ctx context.Context, done []freed) {
	for len(done) > 0 {
		var lanes []string
		for _, f := range done {
			s.bands.stored(f.band, f.due)
			if !f.blocks && !slices.Contains(lanes, f.lane) {
				lanes = append(lanes, f.lane)
			}
		}
		done = nil
		if len(lanes) == 0 || s.transact(ctx, func(c *change) {
			s.lockLanes(c, lanes)
			s.release(c, &done, lanes)
		}) != nil {
			return
		}
	}
}

// laneOf is the lane of a stored delivery, "" when it has none.
func (s *Store) laneOf(ctx context.Context, key string) (lane string, err error) {
	err = s.query(ctx, func(ctx context.Context) error {
		return notFound(s.row(ctx, "SELECT lane FROM {{schema}}.tb_delivery WHERE key = $1", key).Scan(&lane))
	})
	return lane, err
}

// inLane changes one row under the lock of its lane, and releases what waited
// for it. fill gets a condition for the row.
func (s *Store) inLane(ctx context.Context, key string, fill func(c *change, short, lane string)) error {
	if err := s.writable(); err != nil {
		return err
	}
	short, _ := s.texts.key(key)
	lane, err := s.laneOf(ctx, short)
	if err != nil {
		return err
	}
	var lanes []string
	if lane != "" {
		lanes = []string{lane}
	}
	var done []freed
	if err := yielding(func() error {
		done = nil
		return s.transact(ctx, func(c *change) {
			s.lockLanes(c, lanes)
			fill(c, short, lane)
			s.release(c, &done, lanes)
		})
	}); err != nil {
		return err
	}
	s.settle(ctx, done)
	return nil
}
