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

	// countDead has the error of the first of each group.
	countDead = `
SELECT observer, reason, error_print, count(*), min(created_at), min(pk_delivery), error FROM tb_delivery
WHERE state = 'dead' AND lease_until <= ?1 GROUP BY observer, reason, error_print`
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
	for _, step := range []func() error{c.finished, c.unfinished, c.running, c.dead, c.oldestDue} {
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
		var name, fingerprint, example string
		var reason observer.Reason
		var n int
		var oldest, first int64
		if err := rows.Scan(&name, &reason, &fingerprint, &n, &oldest, &first, &example); err != nil {
			return err
		}
		c.stats.DeadByObserver[name] += n
		c.stats.DeadByReason[reason] += n
		group := c.stats.DeadByError[fingerprint]
		c.stats.DeadByError[fingerprint] = observer.ErrorCount{Count: group.Count + n, Example: example}
		if at := fromMicros(oldest); c.stats.OldestDead.IsZero() || at.Before(c.stats.OldestDead) {
			c.stats.OldestDead = at
		}
		return nil
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
