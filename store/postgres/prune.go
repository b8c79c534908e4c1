package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	// stuckLanes are the lanes in which nothing is under way and something is
	// parked: the first of each by the index.
	stuckLanes = `
WITH RECURSIVE lane AS (
    (SELECT lane FROM {{schema}}.tb_delivery WHERE blocks ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT d.lane FROM {{schema}}.tb_delivery AS d WHERE d.blocks AND d.lane > lane.lane ORDER BY d.lane LIMIT 1)
    FROM lane WHERE lane.lane IS NOT NULL)
SELECT lane FROM lane
WHERE lane IS NOT NULL
    AND EXISTS (SELECT FROM {{schema}}.tb_delivery AS d WHERE d.blocks AND d.lane = lane.lane AND d.state = 'parked')
    AND NOT EXISTS (SELECT FROM {{schema}}.tb_delivery AS d WHERE d.blocks AND d.lane = lane.lane AND d.` + underWay + `)`

	// abandonedLanes are the lanes that dead letters block because somebody ran
	// them, and died. Those that somebody runs or did run are mostly none, in an
	// index of their own. The lease is in no index: it is looked at in their rows.
	abandonedLanes = `
WITH RECURSIVE lane AS (
    (SELECT lane FROM {{schema}}.tb_delivery WHERE ` + isClaimed + ` ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT d.lane FROM {{schema}}.tb_delivery AS d WHERE ` + isClaimed + ` AND d.lane > lane.lane ORDER BY d.lane LIMIT 1)
    FROM lane WHERE lane.lane IS NOT NULL)
SELECT lane FROM lane
WHERE lane IS NOT NULL AND EXISTS (SELECT FROM {{schema}}.tb_delivery AS d WHERE d.lane = lane.lane AND ` + isAbandoned + `)`

	unblock     = "UPDATE {{schema}}.tb_delivery SET blocks = false WHERE lane = ANY ($2::text[]) AND " + isAbandoned
	isClaimed   = "state = 'dead' AND blocks AND NOT block_when_dead"
	isAbandoned = isClaimed + " AND lease_until <= " + clock

	// pruneBatch bounds a transaction, pruneUnusedEvery how often unused bands are
	// looked for.
	pruneBatch       = 1000
	pruneUnusedEvery = time.Hour
)

// pruner is what a process remembers between two times of pruning.
type pruner struct {
	mu     sync.Mutex
	floors map[observer.State]*floor
	heal   time.Time // when to look for stuck lanes again
	unused time.Time // when to look for unused bands again
}

// PruneDeliveries implements [observer.DeliveryStore]. Of each state those go
// first that ended first. A database that does not answer is not asked for the
// rest.
func (s *Store) PruneDeliveries(ctx context.Context, r observer.Retention, limit int) (removed int, err error) {
	if err := s.writable(); err != nil {
		return 0, fmt.Errorf("prune deliveries: %w", err)
	}
	s.pruner.mu.Lock()
	defer s.pruner.mu.Unlock()
	var failed error
	for _, look := range []func(context.Context) error{s.unblock, s.heal} {
		if err := look(ctx); err != nil {
			failed = errors.Join(failed, fmt.Errorf("queue what waits for nothing: %w", err))
			if !mayBeRefused(err) {
				return 0, failed
			}
		}
	}
	removed, err = s.pruneFinished(ctx, r, limit)
	return removed, errors.Join(failed, err)
}

// pruneFinished removes what is old enough, and now and then what nothing is
// stored for any more.
func (s *Store) pruneFinished(ctx context.Context, r observer.Retention, limit int) (removed int, err error) {
	for _, step := range []struct {
		state  observer.State
		before time.Time
	}{{observer.Done, r.DoneBefore}, {observer.Dropped, r.DoneBefore}, {observer.Dead, r.DeadBefore}} {
		if step.before.IsZero() {
			continue
		}
		n, err := s.pruneAll(ctx, step.state, step.before, limit-removed)
		if removed += n; err != nil {
			return removed, fmt.Errorf("prune deliveries: %w", err)
		}
	}
	if now := time.Now(); now.After(s.pruner.unused) {
		s.pruner.unused = now.Add(pruneUnusedEvery)
		if err := s.pruneUnused(ctx); err != nil {
			return removed, fmt.Errorf("prune queues: %w", err)
		}
	}
	return removed, nil
}

// pruneAll removes what may go in one state, in batches.
func (s *Store) pruneAll(ctx context.Context, state observer.State, until time.Time, limit int) (removed int, err error) {
	f := s.pruner.floor(state)
	for removed < limit {
		batch := min(limit-removed, pruneBatch)
		from, full := f.start(s.time())
		if state == observer.Dead {
			// They may be leased, or block a lane, and go later. There are not many.
			from, full = dueTime(time.Time{}), true
		}
		started := time.Now()
		n, last, err := s.prune(ctx, state, from, dueTime(until), batch)
		if err != nil {
			return removed, err
		}
		if full {
			f.looked(s.time(), time.Since(started))
		}
		if removed += n; n > 0 {
			f.taken += n
			f.at = later(f.at, last)
		}
		if n < batch {
			break
		}
	}
	return removed, nil
}

// prune removes one batch, and says when the last of it ended.
func (s *Store) prune(ctx context.Context, state observer.State, from, until pgtype.Timestamptz, batch int) (removed int, last pgtype.Timestamptz, err error) {
	err = s.transact(ctx, func(c *change) {
		c.rows(func(rows pgx.Rows) error {
			var at pgtype.Timestamptz
			_, err := pgx.ForEachRow(rows, []any{&at}, func() error {
				if removed++; removed == 1 || before(last, at) {
					last = at
				}
				return nil
			})
			return err
		}, pruneSQL(state), s.clockNow(), from, until, batch)
	})
	return removed, last, err
}

// pruneSQL removes finished rows in one state, those first that ended first. The
// state is a literal, for the index.
func pruneSQL(state observer.State) string {
	return `
WITH gone AS MATERIALIZED (
    SELECT key FROM {{schema}}.tb_delivery
    WHERE state = '` + string(state) + `' AND updated_at >= $2 AND updated_at < $3 AND lease_until <= ` + clock + ` AND NOT blocks
    ORDER BY updated_at LIMIT $4
    FOR UPDATE SKIP LOCKED)
DELETE FROM {{schema}}.tb_delivery AS d USING gone WHERE d.key = gone.key
RETURNING d.updated_at`
}

func (p *pruner) floor(state observer.State) *floor {
	if p.floors == nil {
		p.floors = map[observer.State]*floor{}
	}
	if p.floors[state] == nil {
		f := newFloor()
		p.floors[state] = &f
	}
	return p.floors[state]
}

// unblock has lanes go on after a claim of a dead letter that ended without an
// outcome.
func (s *Store) unblock(ctx context.Context) error {
	lanes, err := s.lanesOf(ctx, abandonedLanes, s.clockNow())
	if err != nil {
		return err
	}
	return s.goOn(ctx, lanes, func(c *change, some []string) { c.run(unblock, s.clockNow(), some) })
}

func (s *Store) lanesOf(ctx context.Context, sql string, args ...any) (lanes []string, err error) {
	err = s.look(ctx, func(c *change) {
		c.rows(func(rows pgx.Rows) (err error) {
			lanes, err = pgx.CollectRows(rows, pgx.RowTo[string])
			return err
		}, sql, args...)
	})
	return lanes, err
}

// goOn releases lanes, some at a time, after a change of each.
func (s *Store) goOn(ctx context.Context, lanes []string, before func(*change, []string)) error {
	for some := range slices.Chunk(lanes, maxLaneLocks) {
		var done []freed
		if err := yielding(func() error {
			done = nil
			return s.transact(ctx, func(c *change) {
				s.lockLanes(c, some)
				before(c, some)
				s.release(c, &done, some)
			})
		}); err != nil {
			return err
		}
		s.settle(ctx, done)
	}
	return nil
}

// heal queues parked deliveries that wait for nothing. That takes a small part of
// the time, however many lanes there are.
func (s *Store) heal(ctx context.Context) error {
	started := time.Now()
	if s.time().Before(s.pruner.heal) {
		return nil
	}
	lanes, err := s.lanesOf(ctx, stuckLanes)
	if err == nil {
		err = s.goOn(ctx, lanes, func(*change, []string) {})
	}
	if err != nil {
		return err
	}
	if cost := time.Since(started); cost > fullLookFirst/fullLookShare {
		s.pruner.heal = s.time().Add(fullLookShare * cost)
	}
	return nil
}
