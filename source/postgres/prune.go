package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
)

// Prune deletes the rows before a position that were recorded before olderThan,
// and says how many. upTo is a checkpoint: what it has not settled is kept, and
// so is the row it stands on, because a later start recognizes its log by it.
//
// It deletes BatchSize rows at a time, each in a transaction of its own, and
// stops at the first row that is young, or has no time.
func (s *Source) Prune(ctx context.Context, upTo observer.Position, olderThan time.Time) (deleted int64, err error) {
	if upTo == "" {
		return 0, nil
	}
	p, err := parsePosition(upTo)
	if err != nil {
		return 0, err
	}
	err = s.withLog(ctx, func(conn *pgx.Conn, log *table) error {
		if p, _, err = locate(ctx, conn, log, upTo); err != nil {
			return err
		}
		below := min(p.gaps.floor()+1, p.gaps.high)
		for from := int64(0); ; {
			n, last, err := prune(ctx, conn, log.pruneQuery(), from, below, olderThan, s.cfg.BatchSize)
			deleted += n
			if err != nil || n < int64(s.cfg.BatchSize) {
				return err
			}
			from = last
		}
	})
	if err != nil {
		return deleted, s.failed("prune the change log", err)
	}
	return deleted, nil
}

// pruneQuery deletes the oldest rows above one key and below another. The last
// key it gives is where the next batch begins: entries of deleted rows stay in
// the index while an old snapshot can see them, and would be walked over again.
func (t *table) pruneQuery() string {
	return `WITH oldest AS (
  SELECT pk_entity_change_log AS pk, created_at FROM ` + t.name + `
   WHERE pk_entity_change_log > $1 AND pk_entity_change_log < $2
   ORDER BY pk_entity_change_log LIMIT $4
), young AS (
  SELECT min(pk) AS pk FROM oldest WHERE created_at IS NULL OR created_at >= $3
), gone AS (
  DELETE FROM ` + t.name + ` WHERE pk_entity_change_log IN (
    SELECT o.pk FROM oldest AS o, young AS y WHERE y.pk IS NULL OR o.pk < y.pk)
  RETURNING pk_entity_change_log AS pk
)
SELECT count(*), coalesce(max(pk), 0) FROM gone`
}

func prune(ctx context.Context, conn *pgx.Conn, query string, args ...any) (n, last int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	err = conn.QueryRow(ctx, query, args...).Scan(&n, &last)
	return n, last, err
}
