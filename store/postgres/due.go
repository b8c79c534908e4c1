package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	dueBand = `d.queue = b.queue AND d.endpoint = b.endpoint AND d.priority = b.priority
        AND d.state IN ('queued', 'scheduled', 'unknown') AND d.due_at >= b.start`

	// claimDue takes from the head of each band what it may, and lets queues and
	// endpoints take turns. The clock is read once. What it looks at and does not
	// take is locked until its end only.
	claimDue = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now),
due AS MATERIALIZED (
    SELECT b.n, b.turn, b.quota, b.rank, f.key, f.due_at, f.ordinal
    FROM unnest($5::text[], $6::text[], $7::integer[], $8::timestamptz[], $9::bigint[], $10::integer[], $11::integer[])
        WITH ORDINALITY AS b(queue, endpoint, priority, start, quota, turn, rank, n)
    CROSS JOIN LATERAL (
        SELECT d.key, d.due_at, d.ordinal FROM {{schema}}.tb_delivery AS d
        WHERE ` + dueBand + ` AND d.due_at <= (SELECT now FROM clock) AND d.lease_until <= (SELECT now FROM clock)
        ORDER BY d.due_at, d.ordinal LIMIT b.quota
        FOR NO KEY UPDATE SKIP LOCKED) AS f),
placed AS (
    SELECT n, key, due_at, quota, row_number() OVER of_turn AS round,
        first_value(due_at) OVER of_turn AS first_due, first_value(ordinal) OVER of_turn AS first_ordinal
    FROM due WINDOW of_turn AS (PARTITION BY turn ORDER BY rank, due_at, ordinal)),
taken AS MATERIALIZED (
    SELECT n, key, row_number() OVER (ORDER BY round, first_due, first_ordinal) AS place
    FROM placed WHERE round <= quota ORDER BY round, first_due, first_ordinal LIMIT $4)
UPDATE {{schema}}.tb_delivery AS d
SET lease_owner = $2, lease_until = now + $3::bigint * interval '1 microsecond',
    claims = claims + 1, lost_at = claimed_at, claimed_at = now
FROM taken CROSS JOIN clock
WHERE d.key = taken.key
RETURNING ` + claimedColumns + `, taken.place, taken.n, due_at`

	// claimedColumns are columns right after a claim.
	claimedColumns = `coalesce(full_key, d.key), state, observer, action, action_type, reason, run_at, created_at, updated_at,
    lease_owner, lease_until, claims, claimed_at, lost_at,
    error, attempts, request, event, malformed, data, before,
    coalesce(full_queue, queue), coalesce(full_endpoint, endpoint), priority, ordering, block_when_dead,
    prints, redrives, edited_at`

	// nextDue finds, for each band, the first delivery that nobody runs: the
	// index gives them in order, and the leased ones it passes over are few. Only
	// those it passed over can become due before it, at the end of their leases.
	nextDue = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now)
SELECT b.n, free.due_at, held.until
FROM unnest($2::text[], $3::text[], $4::integer[], $5::timestamptz[]) WITH ORDINALITY AS b(queue, endpoint, priority, start, n)
LEFT JOIN LATERAL (
    SELECT d.due_at FROM {{schema}}.tb_delivery AS d
    WHERE ` + dueBand + ` AND d.lease_until <= (SELECT now FROM clock)
    ORDER BY d.due_at, d.ordinal LIMIT 1) AS free ON true
CROSS JOIN LATERAL (
    SELECT min(greatest(d.due_at, d.lease_until)) AS until FROM {{schema}}.tb_delivery AS d
    WHERE ` + dueBand + ` AND d.lease_until > (SELECT now FROM clock) AND d.due_at < coalesce(free.due_at, 'infinity')) AS held
WHERE free.due_at IS NOT NULL OR held.until IS NOT NULL`
)

// ClaimDue implements [observer.DeliveryStore]. Room is asked once about each
// queue and endpoint. Of more queues and endpoints than Limit those go first
// whose next delivery has been due longest.
func (s *Store) ClaimDue(ctx context.Context, c observer.Claim) ([]*observer.Delivery, error) {
	if c.Limit <= 0 {
		return nil, ctx.Err()
	}
	if err := s.writable(); err != nil {
		return nil, fmt.Errorf("claim due deliveries: %w", err)
	}
	l := s.bands.look(s.time, c.Room, c.Limit)
	defer s.bands.done(l)
	var claimed []*observer.Delivery
	for l.begin() {
		ds, err := s.claimRound(ctx, c, l)
		if claimed = append(claimed, ds...); err != nil && len(claimed) > 0 {
			return claimed, nil // they are leased; the next call meets the error
		}
		if err != nil {
			return nil, fmt.Errorf("claim due deliveries: %w", err)
		}
	}
	return claimed, nil
}

// claimRound claims from the bands that l probes now, and reads what bands are
// new.
func (s *Store) claimRound(ctx context.Context, c observer.Claim, l *looking) ([]*observer.Delivery, error) {
	type found struct {
		d     *observer.Delivery
		place int
	}
	var all []found
	started := time.Now()
	fill := func(tx *change) {
		if len(l.probes) > 0 {
			tx.rows(func(rows pgx.Rows) error {
				for rows.Next() {
					var f found
					var n int
					var due pgtype.Timestamptz
					d, err := scan(rows, &f.place, &n, &due)
					if err != nil {
						return err
					}
					f.d = d
					all = append(all, f)
					l.probes[n-1].take(due, d.ClaimedAt)
				}
				return rows.Err()
			}, claimDue, append([]any{s.clockNow(), s.texts.encode(c.Owner), c.Lease.Microseconds(), l.left}, l.arrays()...)...)
		}
		s.bands.readBands(tx)
	}
	send := s.transact
	if len(l.probes) == 0 {
		send = s.look
	}
	if err := send(ctx, fill); err != nil {
		return nil, err
	}
	l.end(started, len(all))
	slices.SortFunc(all, func(a, b found) int { return a.place - b.place }) // RETURNING has no order
	return columnOf(all, func(f found) *observer.Delivery { return f.d }), nil
}

// NextDue implements [observer.DeliveryStore]. Leases of dead letters and parked
// deliveries do not count: nothing becomes due when they end. Neither do those
// of deliveries that are due later than the next free one.
func (s *Store) NextDue(ctx context.Context, room observer.Room) (time.Time, error) {
	l := s.bands.look(s.time, room, 0)
	defer s.bands.done(l)
	next := pgtype.Timestamptz{}
	for l.begin() {
		started := time.Now()
		if err := s.look(ctx, func(c *change) {
			if len(l.probes) > 0 {
				c.rows(func(rows pgx.Rows) error {
					var n int
					var free, held pgtype.Timestamptz
					_, err := pgx.ForEachRow(rows, []any{&n, &free, &held}, func() error {
						l.probes[n-1].found, l.probes[n-1].held = free, held
						for _, at := range []pgtype.Timestamptz{free, held} {
							if at.Valid && (!next.Valid || before(at, next)) {
								next = at
							}
						}
						return nil
					})
					return err
				}, nextDue, append([]any{s.clockNow()}, l.arrays()[:4]...)...)
			}
			s.bands.readBands(c)
		}); err != nil {
			return time.Time{}, fmt.Errorf("find the next due delivery: %w", err)
		}
		l.seen(started)
	}
	return timeOf(next), nil
}
