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
	maxErrorGroups = 50
	// otherErrors counts the dead letters of the groups beyond it.
	otherErrors = "(other errors)"

	totals = `
SELECT (SELECT count(*) FROM {{schema}}.tb_delivery WHERE state = 'scheduled'),
       (SELECT count(*) FROM {{schema}}.tb_delivery WHERE state = 'dead'),
       (SELECT min(created_at) FROM {{schema}}.tb_delivery WHERE state = 'dead')`
)

// DeliveryStats implements [observer.DeliveryStore]. All counts are of one
// moment. DeadByError has the 50 most frequent texts; the rest is counted under
// "(other errors)".
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		DeadByObserver: map[string]int{}, DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]int{},
	}
	counted := 0
	var oldest pgtype.Timestamptz
	var b pgx.Batch
	b.Queue("BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY") // one snapshot
	b.Queue(s.schema.in(totals)).QueryRow(func(row pgx.Row) error {
		return row.Scan(&stats.Scheduled, &stats.Dead, &oldest)
	})
	for column, add := range map[string]func(name string, n int){
		"observer": func(name string, n int) { stats.DeadByObserver[name] = n },
		"reason":   func(name string, n int) { stats.DeadByReason[observer.Reason(name)] = n },
	} {
		s.group(&b, column, "ALL", add)
	}
	s.group(&b, "error", strconv.Itoa(maxErrorGroups), func(name string, n int) { stats.DeadByError[name] = n; counted += n })
	b.Queue(commit)
	err := s.query(ctx, func(ctx context.Context) error { return s.pool.SendBatch(ctx, &b).Close() })
	if err != nil {
		return observer.DeliveryStats{}, fmt.Errorf("count deliveries: %w", err)
	}
	stats.OldestDead = timeOf(oldest)
	if rest := stats.Dead - counted; rest > 0 {
		stats.DeadByError[otherErrors] += rest
	}
	return stats, nil
}

// group counts the dead letters by a column, the most frequent first.
func (s *Store) group(b *pgx.Batch, column, limit string, add func(name string, n int)) {
	sql := "SELECT " + column + ", count(*) AS n FROM {{schema}}.tb_delivery WHERE state = 'dead' GROUP BY 1 ORDER BY n DESC, 1 LIMIT " + limit
	b.Queue(s.schema.in(sql)).Query(func(rows pgx.Rows) error {
		var name string
		var n int
		_, err := pgx.ForEachRow(rows, []any{&name, &n}, func() error {
			add(decode(name), n)
			return nil
		})
		return err
	})
}
