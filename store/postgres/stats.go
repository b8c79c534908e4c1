package postgres

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	// maxErrorGroups bounds DeadByError: error texts may each be different.
	maxErrorGroups = 1000

	// Finished rows are the many, so they are counted in an index alone. Nobody
	// leases them, dead ones excepted.
	countFinished = `
SELECT state, count(*) FROM {{schema}}.tb_delivery WHERE state IN ('done', 'dropped') GROUP BY 1`

	countUnfinished = `
SELECT CASE WHEN ` + held + ` THEN 'running' ELSE state END, coalesce(full_endpoint, endpoint), count(*),
    min(due_at) FILTER (WHERE lease_until <= ` + clock + ` AND due_at <= ` + clock + `)
FROM {{schema}}.tb_delivery WHERE state IN ('queued', 'scheduled', 'unknown') GROUP BY 1, 2`

	countParked = `
SELECT CASE WHEN ` + held + ` THEN 'running' ELSE state END, coalesce(full_endpoint, endpoint), count(*), NULL::timestamptz
FROM {{schema}}.tb_delivery WHERE blocks AND state = 'parked' GROUP BY 1, 2`

	countRedriven = `
SELECT 'running', coalesce(full_endpoint, endpoint), count(*), NULL::timestamptz
FROM {{schema}}.tb_delivery WHERE state = 'dead' AND ` + held + ` GROUP BY 1, 2`

	isDead = `state = 'dead' AND lease_until <= ` + clock

	countDead = `
SELECT count(*), min(created_at) FROM {{schema}}.tb_delivery WHERE ` + isDead
)

// DeliveryStats implements [observer.DeliveryStore]. All counts are of one
// moment. DeadByError has the 1,000 most frequent errors.
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		States: map[observer.State]int{}, Waiting: map[string]int{}, DeadByObserver: map[string]int{},
		DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]observer.ErrorCount{},
	}
	c := &change{schema: s.schema}
	c.batch.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") // one snapshot
	s.countFinished(c, &stats)
	for _, sql := range []string{countUnfinished, countParked, countRedriven} {
		s.countWaiting(c, &stats, sql)
	}
	s.countDead(c, &stats)
	c.batch.Queue(commit)
	err := s.query(ctx, func(ctx context.Context) error { return s.pool.SendBatch(ctx, &c.batch).Close() })
	if err != nil {
		return observer.DeliveryStats{}, fmt.Errorf("count deliveries: %w", err)
	}
	return stats, nil
}

func (s *Store) countFinished(c *change, stats *observer.DeliveryStats) {
	c.rows(func(rows pgx.Rows) error {
		var state string
		var n int
		_, err := pgx.ForEachRow(rows, []any{&state, &n}, func() error {
			stats.States[observer.State(state)] = n
			return nil
		})
		return err
	}, countFinished)
}

func (s *Store) countWaiting(c *change, stats *observer.DeliveryStats, sql string) {
	c.rows(func(rows pgx.Rows) error {
		var state, endpoint string
		var n int
		var due pgtype.Timestamptz
		_, err := pgx.ForEachRow(rows, []any{&state, &endpoint, &n, &due}, func() error {
			stats.States[observer.State(state)] += n
			stats.Waiting[decode(endpoint)] += n
			if at := timeOf(due); !at.IsZero() && (stats.OldestDue.IsZero() || at.Before(stats.OldestDue)) {
				stats.OldestDue = at
			}
			return nil
		})
		return err
	}, sql, s.clockNow())
}

func (s *Store) countDead(c *change, stats *observer.DeliveryStats) {
	c.rows(func(rows pgx.Rows) error {
		var n int
		var oldest pgtype.Timestamptz
		_, err := pgx.ForEachRow(rows, []any{&n, &oldest}, func() error {
			if n > 0 {
				stats.States[observer.Dead], stats.OldestDead = n, timeOf(oldest)
			}
			return nil
		})
		return err
	}, countDead, s.clockNow())
	s.groupDead(c, "observer", "ALL", func(name, _ string, n int) { stats.DeadByObserver[name] = n })
	s.groupDead(c, "reason", "ALL", func(name, _ string, n int) { stats.DeadByReason[observer.Reason(name)] = n })
	s.groupDead(c, "coalesce(error_print, '')", strconv.Itoa(maxErrorGroups), func(name, example string, n int) {
		stats.DeadByError[name] = observer.ErrorCount{Count: n, Example: example}
	})
}

// groupDead counts the dead letters by a column, the most frequent first.
func (s *Store) groupDead(c *change, column, limit string, add func(name, example string, n int)) {
	c.rows(func(rows pgx.Rows) error {
		var name, example string
		var n int
		_, err := pgx.ForEachRow(rows, []any{&name, &example, &n}, func() error {
			add(decode(name), decode(example), n)
			return nil
		})
		return err
	}, "SELECT "+column+", min(error), count(*) AS n FROM {{schema}}.tb_delivery WHERE "+isDead+
		" GROUP BY 1 ORDER BY n DESC, 1 LIMIT "+limit, s.clockNow())
}
