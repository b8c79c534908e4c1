package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"maps"

	observer "github.com/fraiseql/observer"
)

const (
	countFinished = `SELECT state, n FROM tb_finished_count`

	// countDue and countParked read an index and no rows.
	countDue = `
SELECT state, endpoint, count(*) FROM tb_delivery WHERE due_at IS NOT NULL GROUP BY state, endpoint`

	countParked = `
SELECT 'parked', endpoint, count(*) FROM tb_delivery WHERE state = 'parked' GROUP BY endpoint`

	// countRunning is what the other counts have under the state that it was
	// claimed from.
	countRunning = `
SELECT state, endpoint, count(*) FROM tb_delivery WHERE lease_until > 0 AND lease_until > ?1 GROUP BY state, endpoint`

	countDead = `
SELECT observer, reason, count(*), min(created_at) FROM tb_delivery
WHERE state = 'dead' AND lease_until <= ?1 GROUP BY observer, reason`

	// countErrors has the error of the first of each group.
	countErrors = `
SELECT g.error_print, g.n, d.error FROM (
    SELECT error_print, count(*) AS n, min(pk_delivery) AS first FROM tb_delivery
    WHERE state = 'dead' AND lease_until <= ?1 GROUP BY error_print ORDER BY n DESC, error_print LIMIT ?2) AS g
CROSS JOIN tb_delivery AS d ON d.pk_delivery = g.first`

	// maxErrorGroups bounds DeadByError: error texts may each be different.
	maxErrorGroups = 1000
)

// DeliveryStats implements [observer.DeliveryStore]. All counts are of one
// moment.
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		States: map[observer.State]int{}, Waiting: map[string]int{}, DeadByObserver: map[string]int{},
		DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]observer.ErrorCount{},
	}
	err := s.snapshot(ctx, func(conn *sql.Conn) error {
		c := &count{ctx: ctx, conn: conn, now: micros(s.now()), stats: &stats}
		return c.all()
	})
	if err != nil {
		return observer.DeliveryStats{}, fmt.Errorf("count deliveries: %w", s.explain(err))
	}
	return stats, nil
}

// count fills in stats.
type count struct {
	ctx   context.Context //nolint:containedctx // it lives as long as one call
	conn  *sql.Conn
	now   int64
	stats *observer.DeliveryStats
}

func (c *count) all() error {
	for _, step := range []func() error{c.finished, c.unfinished, c.running, c.dead, c.errors, c.oldestDue} {
		if err := step(); err != nil {
			return err
		}
	}
	maps.DeleteFunc(c.stats.States, func(_ observer.State, n int) bool { return n == 0 })
	return nil
}

func (c *count) finished() error {
	return c.each(countFinished, nil, func(rows *sql.Rows) error {
		var state observer.State
		var n int
		err := rows.Scan(&state, &n)
		c.stats.States[state] += n
		return err
	})
}

func (c *count) unfinished() error {
	for _, query := range []string{countDue, countParked} {
		err := c.groups(query, nil, func(state observer.State, endpoint string, n int) {
			c.stats.States[state] += n
			c.stats.Waiting[endpoint] += n
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// running moves what is leased: a dead letter that is redriven waits again.
func (c *count) running() error {
	return c.groups(countRunning, []any{c.now}, func(state observer.State, endpoint string, n int) {
		c.stats.States[state] -= n
		c.stats.States[observer.Running] += n
		if state.Finished() {
			c.stats.Waiting[endpoint] += n
		}
	})
}

func (c *count) dead() error {
	return c.each(countDead, []any{c.now}, func(rows *sql.Rows) error {
		var name string
		var reason observer.Reason
		var n int
		var oldest int64
		if err := rows.Scan(&name, &reason, &n, &oldest); err != nil {
			return err
		}
		c.stats.DeadByObserver[name] += n
		c.stats.DeadByReason[reason] += n
		if at := fromMicros(oldest); c.stats.OldestDead.IsZero() || at.Before(c.stats.OldestDead) {
			c.stats.OldestDead = at
		}
		return nil
	})
}

func (c *count) errors() error {
	return c.each(countErrors, []any{c.now, maxErrorGroups}, func(rows *sql.Rows) error {
		var fingerprint string
		var group observer.ErrorCount
		err := rows.Scan(&fingerprint, &group.Count, &group.Example)
		c.stats.DeadByError[fingerprint] = group
		return err
	})
}

// oldestDue asks each band that may have something due.
func (c *count) oldestDue() error {
	var oldest int64
	found := false
	bands, err := readBands(c.ctx, c.conn, selectDueBands, c.now)
	if err != nil {
		return err
	}
	for _, b := range bands {
		if found && b.dueAt >= oldest {
			break
		}
		at, free, err := oneTime(c.conn.QueryRowContext(c.ctx, firstFree, b.args(c.now)...))
		if err != nil {
			return err
		}
		if free && at <= c.now && (!found || at < oldest) {
			oldest, found = at, true
		}
	}
	if found {
		c.stats.OldestDue = fromMicros(oldest)
	}
	return nil
}

func (c *count) groups(query string, args []any, add func(state observer.State, endpoint string, n int)) error {
	return c.each(query, args, func(rows *sql.Rows) error {
		var state observer.State
		var endpoint string
		var n int
		err := rows.Scan(&state, &endpoint, &n)
		if err == nil {
			add(state, endpoint, n)
		}
		return err
	})
}

func (c *count) each(query string, args []any, scan func(*sql.Rows) error) error {
	return each(c.ctx, c.conn, scan, query, args...)
}
