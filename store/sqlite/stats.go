package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	observer "github.com/fraiseql/observer"
)

const (
	// maxErrorGroups bounds DeadByError: error texts may each be different.
	maxErrorGroups = 50
	// otherErrors counts the dead letters of the groups beyond it.
	otherErrors = "(other errors)"
)

// DeliveryStats implements [observer.DeliveryStore]. All counts are of one
// moment. DeadByError has the 50 most frequent texts; the rest is counted under
// "(other errors)".
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats, err := s.stats(ctx)
	if err != nil {
		return observer.DeliveryStats{}, fmt.Errorf("count deliveries: %w", s.explain(err))
	}
	return stats, nil
}

// DeliveryKeys implements [observer.DeliveryStore].
func (s *Store) DeliveryKeys(ctx context.Context, each func(key string)) error {
	if err := s.keys(ctx, each); err != nil {
		return fmt.Errorf("read the keys of deliveries: %w", s.explain(err))
	}
	return nil
}

func (s *Store) keys(ctx context.Context, each func(key string)) error {
	rows, err := s.read.QueryContext(ctx, "SELECT key FROM tb_delivery")
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err below reports what matters
	for rows.Next() {
		var key string
		if err := rows.Scan(&key); err != nil {
			return err
		}
		each(key)
	}
	return rows.Err()
}

func (s *Store) stats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		DeadByObserver: map[string]int{}, DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]int{},
	}
	// One transaction is one snapshot. Begun by hand as a reader: the pool's
	// transactions take the lock of a writer.
	conn, err := s.read.Conn(ctx)
	if err != nil {
		return stats, err
	}
	defer conn.Close() //nolint:errcheck // it only returns to the pool
	if _, err := conn.ExecContext(ctx, "BEGIN DEFERRED"); err != nil {
		return stats, err
	}
	defer conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") //nolint:errcheck // nothing was written
	const totals = `
SELECT (SELECT count(*) FROM tb_delivery WHERE state = 'scheduled'),
       (SELECT n FROM tb_dead_count),
       (SELECT coalesce(min(created_at), 0) FROM tb_delivery WHERE state = 'dead')`
	var oldest int64
	if err := conn.QueryRowContext(ctx, totals).Scan(&stats.Scheduled, &stats.Dead, &oldest); err != nil {
		return stats, err
	}
	stats.OldestDead = fromMicros(oldest)
	err = groups(ctx, conn, &stats)
	return stats, err
}

func groups(ctx context.Context, conn *sql.Conn, stats *observer.DeliveryStats) error {
	counted := 0
	for _, g := range []struct {
		column string
		limit  int
		add    func(name string, n int)
	}{
		{"observer", -1, func(name string, n int) { stats.DeadByObserver[name] = n }},
		{"reason", -1, func(name string, n int) { stats.DeadByReason[observer.Reason(name)] = n }},
		{"error", maxErrorGroups, func(name string, n int) { stats.DeadByError[name] = n; counted += n }},
	} {
		if err := group(ctx, conn, g.column, g.limit, g.add); err != nil {
			return err
		}
	}
	if rest := stats.Dead - counted; rest > 0 {
		stats.DeadByError[otherErrors] += rest
	}
	return nil
}

func group(ctx context.Context, conn *sql.Conn, column string, limit int, add func(string, int)) error {
	query := "SELECT " + column + ", count(*) AS n FROM tb_delivery WHERE state = 'dead' GROUP BY 1 ORDER BY n DESC, 1 LIMIT ?" //nolint:gosec // the columns are named above
	rows, err := conn.QueryContext(ctx, query, limit)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // Err below reports what matters
	for rows.Next() {
		var name string
		var n int
		if err := rows.Scan(&name, &n); err != nil {
			return err
		}
		add(name, n)
	}
	return rows.Err()
}
