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
	// updateRows stores rows instead of those that their owners hold. What is as
	// it was is taken from the old row: then it is not written again where it is
	// too large for the row itself. The owner stays: what is asked for once more
	// because its answer was lost is known by it.
	updateRows = `
UPDATE {{schema}}.tb_delivery AS d SET (state, observer, action, action_type, reason, run_at, error, attempts,
    request, event, malformed, data, before, queue, endpoint, priority, full_queue, full_endpoint,
    ordering, block_when_dead, lane, blocks, event_id, entity_type, entity_id, prints, redrives, edited_at, error_print,
    updated_at, lease_until, claims, claimed_at, lost_at) = (u.state, u.observer, u.action, u.action_type, u.reason, u.run_at, u.error, u.attempts,
    CASE WHEN d.request = u.request THEN d.request ELSE u.request END, CASE WHEN d.event = u.event THEN d.event ELSE u.event END,
    CASE WHEN d.malformed = u.malformed THEN d.malformed ELSE u.malformed END, CASE WHEN d.data = u.data THEN d.data ELSE u.data END,
    CASE WHEN d.before = u.before THEN d.before ELSE u.before END, u.queue, u.endpoint, u.priority, u.full_queue, u.full_endpoint,
    u.ordering, u.block_when_dead, u.lane, u.blocks, u.event_id, u.entity_type, u.entity_id, u.prints, u.redrives, u.edited_at, u.error_print,
    ` + clock + `, '-infinity', 0, NULL, NULL)
FROM unnest(` + rowArrays + `, $33::text[], $34::text[]) AS u(` + rowColumns + `, owner, was)
WHERE d.key = u.key AND d.lane = u.was AND d.lease_owner = u.owner AND d.lease_until > ` + clock + `
RETURNING d.key, d.due_at`

	// whyNot looks at rows that updateRows left alone: those that are held, and in
	// another lane than the one that was locked, and those that were stored so by
	// the same owner before. What it had parked may be queued since.
	whyNot = `
SELECT u.n, d.lane, d.lease_until = '-infinity'
FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::text[]) WITH ORDINALITY AS u(key, owner, was, state, attempts, n)
JOIN {{schema}}.tb_delivery AS d ON d.key = u.key
WHERE d.lease_owner = u.owner AND u.owner <> '' AND (d.lease_until > ` + clock + ` AND d.lane <> u.was
    OR d.lease_until = '-infinity' AND d.attempts = u.attempts
        AND (d.state = u.state OR u.state = 'parked' AND d.state = 'queued'))`

	requeue = `
UPDATE {{schema}}.tb_delivery AS d
SET (state, blocks) = (SELECT CASE WHEN w.waits THEN 'parked' ELSE 'queued' END,
        d.lane <> '' AND (w.waits OR d.ordering = 'strict' OR d.ordering = 'entity' AND d.attempts = '[]')
        FROM (SELECT d.state = 'dead' AND ` + waits + ` AS waits) AS w),
    redrives = redrives + CASE WHEN state = 'dead' THEN 1 ELSE 0 END, run_at = $4, updated_at = ` + clock + `
WHERE key = $2 AND lane = $3 AND state IN ('dead', 'scheduled', 'unknown') AND lease_until <= ` + clock + `
RETURNING state, queue, endpoint, priority, due_at`

	removeDelivery = `DELETE FROM {{schema}}.tb_delivery WHERE key = $2 AND lane = $3 AND lease_until <= ` + clock
)

// UpdateDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it; CreatedAt stays as stored. What is put back
// Parked is queued when its lane went free in the meantime.
func (s *Store) UpdateDelivery(ctx context.Context, d *observer.Delivery, owner string) error {
	err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Parked,
		observer.Done, observer.Dropped, observer.Dead)
	var r *row
	if err == nil {
		r, err = s.texts.row(d, d.State)
	}
	if err == nil {
		err = s.write(ctx, &op{update: r, was: r.lane, owner: s.texts.encode(owner)})
	}
	if err != nil {
		return fmt.Errorf("update delivery %s: %w", d.Key, err)
	}
	return nil
}

// update adds the statement that stores the updates of ops, in the order of
// their keys: changes that lock rows in one order do not wait in a circle. The
// answer of those whose owner does not hold the row is that it is busy.
func (s *Store) update(c *change, ops []*op) {
	byKey := make(map[string]*op, len(ops))
	for _, o := range ops {
		o.err = observer.ErrBusy
		byKey[o.update.key] = o
	}
	args := append([]any{s.clockNow()}, arrays(columnOf(ops, func(o *op) *row { return o.update }))...)
	args = append(args, columnOf(ops, func(o *op) string { return o.owner }), columnOf(ops, func(o *op) string { return o.was }))
	c.rows(func(rows pgx.Rows) error {
		var key string
		var due pgtype.Timestamptz
		_, err := pgx.ForEachRow(rows, []any{&key, &due}, func() error {
			if o := byKey[key]; o != nil {
				o.err, o.due = nil, due
			}
			return nil
		})
		return err
	}, updateRows, args...)
}

// busy looks at the updates among ops that changed nothing. It gives those to be
// made again because their rows are in another lane than they thought: the order
// of an observer was changed. Those that are repeated have their answer then.
func (s *Store) busy(ctx context.Context, ops []*op) (again []*op) {
	ops = slices.DeleteFunc(slices.Clone(ops), func(o *op) bool { return o.err == nil })
	if len(ops) == 0 {
		return nil
	}
	text := func(get func(*op) string) []string { return columnOf(ops, get) }
	if err := s.look(ctx, func(c *change) {
		c.rows(func(rows pgx.Rows) error {
			var n int
			var lane string
			var settled bool
			_, err := pgx.ForEachRow(rows, []any{&n, &lane, &settled}, func() error {
				if o := ops[n-1]; settled {
					o.err = nil
				} else {
					o.was = lane
					again = append(again, o)
				}
				return nil
			})
			return err
		}, whyNot, s.clockNow(), text(func(o *op) string { return o.update.key }), text(func(o *op) string { return o.owner }),
			text(func(o *op) string { return o.was }), text(func(o *op) string { return o.update.state }),
			text(func(o *op) string { return o.update.Attempts }))
	}); err != nil {
		for _, o := range ops {
			o.err = err // busy or not: it can be asked for once more
		}
		return nil
	}
	return again
}

// RequeueDelivery implements [observer.DeliveryStore]. What waits for a retry is
// never parked: it is on its way.
func (s *Store) RequeueDelivery(ctx context.Context, key string, at time.Time) (observer.State, error) {
	var state observer.State
	var band bandKey
	var due pgtype.Timestamptz
	err := s.inLane(ctx, key, func(c *change, short, lane string) {
		state = "" // what was told before it gave way is not true any more
		c.rows(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&state, &band.queue, &band.endpoint, &band.priority, &due}, func() error { return nil })
			return err
		}, requeue, s.clockNow(), short, lane, dueTime(at))
	})
	if err == nil && state == "" {
		err = s.notChanged(ctx, key, observer.Scheduled, observer.Unknown, observer.Dead)
	}
	if err != nil {
		return "", fmt.Errorf("requeue delivery %s: %w", key, err)
	}
	if state == observer.Queued {
		s.bands.stored(band, due)
	}
	return state, nil
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	var removed int64
	err := s.inLane(ctx, key, func(c *change, short, lane string) {
		c.exec(&removed, removeDelivery, s.clockNow(), short, lane)
	})
	if err == nil && removed == 0 {
		err = s.notChanged(ctx, key, observer.States()...)
	}
	if err != nil {
		return fmt.Errorf("remove delivery %s: %w", key, err)
	}
	return nil
}

// notChanged says why a statement found no row to change: there is none in one
// of the states, or it is leased. A lease that ended since was running then.
func (s *Store) notChanged(ctx context.Context, key string, states ...observer.State) error {
	short, _ := s.texts.key(key)
	var there bool
	err := s.query(ctx, func(ctx context.Context) error {
		return s.row(ctx, `SELECT EXISTS (SELECT FROM {{schema}}.tb_delivery
WHERE key = $2 AND (lease_until > `+clock+` OR state = ANY ($3::text[])))`, s.clockNow(), short, states).Scan(&there)
	})
	switch {
	case err != nil:
		return err
	case there:
		return observer.ErrBusy
	}
	return observer.ErrNotFound
}
