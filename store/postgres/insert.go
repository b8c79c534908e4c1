package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	// insertRows stores rows in their order, and parks those whose lane is
	// blocked. One statement stores at most one event of each lane, so that
	// they do not depend on each other.
	insertRows = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now)
INSERT INTO {{schema}}.tb_delivery (created_at, updated_at, lease_owner, lease_until, claims, claimed_at, ` + rowColumns + `)
SELECT now, now, owner, CASE WHEN owner <> '' THEN now + lease * interval '1 microsecond' ELSE '-infinity' END,
    CASE WHEN owner <> '' THEN 1 ELSE 0 END, CASE WHEN owner <> '' THEN now END,
    key, full_key, CASE WHEN parked THEN 'parked' ELSE state END, observer, action, action_type, reason, run_at, error, attempts,
    request, event, malformed, data, before, queue, endpoint, priority, full_queue, full_endpoint,
    ordering, block_when_dead, lane, blocks OR parked, event_id, entity_type, entity_id, prints, redrives, edited_at, error_print
FROM clock CROSS JOIN unnest(` + rowArrays + `, $33::text[], $34::bigint[]) WITH ORDINALITY AS u(` + rowColumns + `, owner, lease, n)
CROSS JOIN LATERAL (SELECT u.owner = '' AND u.lane <> '' AND u.state <> 'dead' AND EXISTS (
    SELECT FROM {{schema}}.tb_delivery AS d WHERE d.blocks AND d.lane = u.lane AND d.event_id <> u.event_id) AS parked) AS p`

	insertEnd = `
ORDER BY n
ON CONFLICT (key) DO NOTHING
RETURNING key, state, due_at`

	insertPlain = insertRows + insertEnd
	// insertChecked stores nothing when the check before it found no room.
	insertChecked = insertRows + `
WHERE current_setting('fraiseql_observer.room') = 'yes'` + insertEnd

	// checkRoom finds out whether there is room for the dead letters whose keys
	// are given, as far as they are new.
	checkRoom = `
WITH fresh AS MATERIALIZED (
    SELECT count(*) AS n FROM (SELECT DISTINCT key FROM unnest($1::text[]) AS key) AS k
    WHERE NOT EXISTS (SELECT FROM {{schema}}.tb_delivery AS d WHERE d.key = k.key COLLATE "C"))
SELECT set_config('fraiseql_observer.room',
    CASE WHEN n = 0 OR n + (SELECT sum(n) FROM {{schema}}.tb_dead_count) <= $2::bigint THEN 'yes' ELSE 'no' END, true)
FROM fresh`
)

// margin is the number of dead letters below the cap from which on they are
// stored one after the other. Above it each session that stores one at the same
// time has seen room for all of them, so it must be more than the sessions that
// a server may have.
const margin = 1000

// newRow is a row to insert, and what became of it.
type newRow struct {
	*row
	owner          string // of what begins, else ""
	lease          int64  // in microseconds
	stored, parked bool
	due            pgtype.Timestamptz
}

// InsertDeliveries implements [observer.DeliveryStore]. It reads ds before it
// returns and changes nothing but the State of what it parks.
func (s *Store) InsertDeliveries(ctx context.Context, ds ...*observer.Delivery) (int, error) {
	if len(ds) == 0 {
		return 0, ctx.Err()
	}
	what := "store delivery " + ds[0].Key
	if len(ds) > 1 {
		what = fmt.Sprintf("store %d deliveries from %s on", len(ds), ds[0].Key)
	}
	change := &op{}
	for _, d := range ds {
		if err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead); err != nil {
			return 0, fmt.Errorf("store delivery %s: %w", d.Key, err)
		}
		r, err := s.texts.row(d, d.State)
		if err != nil {
			return 0, fmt.Errorf("store delivery %s: %w", d.Key, err)
		}
		change.insert = append(change.insert, &newRow{row: r})
		change.hasDead = change.hasDead || d.State == observer.Dead
	}
	if err := s.write(ctx, change); err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	stored := 0
	for i, r := range change.insert {
		if r.stored {
			stored++
		}
		if r.parked {
			ds[i].State = observer.Parked
		}
	}
	return stored, nil
}

// BeginDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it.
func (s *Store) BeginDelivery(ctx context.Context, d *observer.Delivery, owner string, lease time.Duration) (bool, error) {
	r, err := s.texts.row(d, observer.Unknown)
	if err == nil && owner == "" {
		err = errors.New("it has no owner")
	}
	if err != nil {
		return false, fmt.Errorf("begin delivery %s: %w", d.Key, err)
	}
	begun := &newRow{row: r, owner: s.texts.encode(owner), lease: lease.Microseconds()}
	if err := s.write(ctx, &op{insert: []*newRow{begun}}); err != nil {
		return false, fmt.Errorf("begin delivery %s: %w", d.Key, err)
	}
	return begun.stored, nil
}

// checkState says which states a caller may store a delivery in.
func checkState(d *observer.Delivery, allowed ...observer.State) error {
	if !slices.Contains(allowed, d.State) {
		return fmt.Errorf("the state is %q, want one of %q", d.State, allowed)
	}
	return nil
}

// write hands a change to the writer. Dead letters have one of their own, because
// close to the cap they wait for each other.
func (s *Store) write(ctx context.Context, change *op) error {
	if err := s.writable(); err != nil {
		return err
	}
	if change.hasDead {
		return s.deadWriter.do(ctx, change)
	}
	return s.writer.do(ctx, change)
}

// waves splits rows into those that one statement may store: of each lane one
// event. The order within lanes stays. Of one key only the first is stored.
func waves(rows []*newRow) [][]*newRow {
	type place struct {
		wave  int
		event string
	}
	var all [][]*newRow
	keys, last := map[string]bool{}, map[string]place{}
	for _, r := range rows {
		if keys[r.key] {
			continue
		}
		keys[r.key] = true
		at := place{event: r.eventID}
		if r.lane != "" {
			before, there := last[r.lane]
			if at.wave = before.wave; there && before.event != at.event {
				at.wave++
			}
			last[r.lane] = at
		}
		if at.wave == len(all) {
			all = append(all, nil)
		}
		all[at.wave] = append(all[at.wave], r)
	}
	return all
}

// insert adds the statement that stores a wave.
func (s *Store) insert(c *change, sql string, wave []*newRow) {
	rows := columnOf(wave, func(r *newRow) *row { return r.row })
	byKey := make(map[string]*newRow, len(wave))
	for _, r := range wave {
		byKey[r.key] = r
	}
	args := append([]any{s.clockNow()}, arrays(rows)...)
	args = append(args, columnOf(wave, func(r *newRow) string { return r.owner }), columnOf(wave, func(r *newRow) int64 { return r.lease }))
	c.rows(func(rows pgx.Rows) error {
		var key, state string
		var due pgtype.Timestamptz
		_, err := pgx.ForEachRow(rows, []any{&key, &state, &due}, func() error {
			if r := byKey[key]; r != nil {
				r.stored, r.parked, r.due = true, state == string(observer.Parked), due
			}
			return nil
		})
		return err
	}, sql, args...)
}
