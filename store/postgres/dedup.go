package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/batch"
)

const (
	// Rows are locked in the order of their keys, so that batches of several
	// processes cannot wait for each other in a circle.
	claimDedup = `
INSERT INTO {{schema}}.tb_dedup AS d (key, full_key, owner, until, made_at)
SELECT a.key, a.full_key, a.owner, ` + clock + ` + a.lease * interval '1 microsecond', ` + clock + `
FROM unnest($2::text[], $3::text[], $4::text[], $5::bigint[]) AS a(key, full_key, owner, lease) ORDER BY a.key
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE d.owner <> '' AND (d.owner = excluded.owner OR d.until <= ` + clock + `)`

	findDedup = `
SELECT key, owner, (extract(epoch FROM until - ` + clock + `) * 1000000)::bigint FROM {{schema}}.tb_dedup WHERE key = ANY ($2)`

	finishDedup = `
INSERT INTO {{schema}}.tb_dedup AS d (key, full_key, owner, until, made_at)
SELECT a.key, a.full_key, '', ` + clock + ` + a.keep * interval '1 microsecond', ` + clock + `
FROM unnest($2::text[], $3::text[], $4::bigint[]) AS a(key, full_key, keep) ORDER BY a.key
ON CONFLICT (key) DO UPDATE SET owner = '', until = greatest(excluded.until, CASE d.owner WHEN '' THEN d.until END)`

	releaseDedup = `DELETE FROM {{schema}}.tb_dedup WHERE key = $1 AND owner = $2 AND owner <> ''`

	selectDedupMarks = `
SELECT key, full_key, (extract(epoch FROM until - ` + clock + `) * 1000000)::bigint FROM {{schema}}.tb_dedup
WHERE key > $2 AND owner = '' AND until > ` + clock + ` ORDER BY key LIMIT $3`

	// Only the oldest rows are looked at: what is kept for as long ends in the order
	// in which it was made.
	pruneDedup = `
WITH oldest AS MATERIALIZED (SELECT key FROM {{schema}}.tb_dedup ORDER BY made_at LIMIT $2), gone AS MATERIALIZED (
    SELECT d.key FROM oldest JOIN {{schema}}.tb_dedup AS d ON d.key = oldest.key WHERE d.until <= ` + clock + `
    FOR UPDATE OF d SKIP LOCKED)
DELETE FROM {{schema}}.tb_dedup AS d USING gone WHERE d.key = gone.key`
)

// dedupBatch bounds how many callers share a transaction.
const dedupBatch = 512

// dedupClaim is a claim somebody waits for.
type dedupClaim struct {
	observer.DedupClaim
	lease time.Duration
}

// dedup puts the calls of concurrent callers together.
type dedup struct {
	claims *batch.Batcher[dedupClaim, observer.DedupAnswer]
	marks  *batch.Batcher[observer.DedupMark, struct{}]
}

func (s *Store) newDedup() dedup {
	return dedup{
		claims: batch.New(batch.Config[dedupClaim, observer.DedupAnswer]{
			Run: s.claimDedups, Key: func(c dedupClaim) string { return c.Key }, Size: dedupBatch, AtOnce: 1, Timeout: Timeout,
		}),
		marks: batch.New(batch.Config[observer.DedupMark, struct{}]{
			Run: s.finishDedups, Key: func(m observer.DedupMark) string { return m.Key }, Size: dedupBatch, AtOnce: 1, Timeout: Timeout,
		}),
	}
}

// ClaimDedup implements [observer.DedupStore].
func (s *Store) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (observer.DedupAnswer, error) {
	answer, err := s.dedup.claims.Do(ctx, dedupClaim{c, lease})
	if err != nil {
		return answer, fmt.Errorf("claim %s: %w", c.Key, err)
	}
	return answer, nil
}

func (s *Store) claimDedups(ctx context.Context, claims []dedupClaim) ([]observer.DedupAnswer, error) {
	keys, full := make([]string, len(claims)), make([]*string, len(claims))
	owners, leases := make([]string, len(claims)), make([]int64, len(claims))
	for i, c := range claims {
		keys[i], full[i] = s.texts.key(c.Key)
		owners[i], leases[i] = s.texts.encode(c.Owner), c.lease.Microseconds()
	}
	found := map[string]observer.DedupAnswer{}
	holders := map[string]string{}
	if err := s.writableTransact(ctx, func(c *change) {
		c.run(claimDedup, s.clockNow(), keys, full, owners, leases)
		c.rows(func(rows pgx.Rows) error {
			var key, owner string
			var left int64
			_, err := pgx.ForEachRow(rows, []any{&key, &owner, &left}, func() error {
				holders[key], found[key] = owner, standing(owner, left)
				return nil
			})
			return err
		}, findDedup, s.clockNow(), keys)
	}); err != nil {
		return nil, err
	}
	answers := make([]observer.DedupAnswer, len(claims))
	for i := range claims {
		answers[i] = observer.DedupAnswer{Standing: observer.DedupBusy} // its row has just gone
		if answer, there := found[keys[i]]; there {
			answers[i] = answer
		}
		if holders[keys[i]] == owners[i] {
			answers[i] = observer.DedupAnswer{Standing: observer.DedupClaimed}
		}
	}
	return answers, nil
}

// standing is where a row of somebody else stands.
func standing(owner string, left int64) observer.DedupAnswer {
	if owner == "" {
		return observer.DedupAnswer{Standing: observer.DedupDone}
	}
	return observer.DedupAnswer{Standing: observer.DedupBusy, Wait: time.Duration(left) * time.Microsecond, Owner: decode(owner)}
}

// FinishDedup implements [observer.DedupStore].
func (s *Store) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	var err error
	if len(marks) == 1 {
		_, err = s.dedup.marks.Do(ctx, marks[0])
	} else if len(marks) > 1 {
		_, err = s.finishDedups(ctx, longest(marks))
	}
	if err != nil {
		return fmt.Errorf("remember what was handled: %w", err)
	}
	return nil
}

// longest leaves one mark of each key, because a statement cannot write a row
// twice.
func longest(marks []observer.DedupMark) []observer.DedupMark {
	marks = slices.Clone(marks)
	slices.SortFunc(marks, func(a, b observer.DedupMark) int {
		return cmp.Or(cmp.Compare(a.Key, b.Key), cmp.Compare(b.Keep, a.Keep))
	})
	return slices.CompactFunc(marks, func(a, b observer.DedupMark) bool { return a.Key == b.Key })
}

func (s *Store) finishDedups(ctx context.Context, marks []observer.DedupMark) ([]struct{}, error) {
	keys, full, keeps := make([]string, len(marks)), make([]*string, len(marks)), make([]int64, len(marks))
	for i, m := range marks {
		keys[i], full[i] = s.texts.key(m.Key)
		keeps[i] = m.Keep.Microseconds()
	}
	err := s.writableTransact(ctx, func(c *change) { c.run(finishDedup, s.clockNow(), keys, full, keeps) })
	return make([]struct{}, len(marks)), err
}

// ReleaseDedup implements [observer.DedupStore].
func (s *Store) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	key, _ := s.texts.key(c.Key)
	return s.change(ctx, "release "+c.Key, func(tx *change) { tx.run(releaseDedup, key, s.texts.encode(c.Owner)) })
}

// DedupMarks implements [observer.DedupStateStore]. The order is that of the
// keys as they are stored.
func (s *Store) DedupMarks(ctx context.Context, after string, limit int) ([]observer.DedupMark, error) {
	var marks []observer.DedupMark
	after, _ = s.texts.key(after)
	err := s.query(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(selectDedupMarks), s.clockNow(), after, limit)
		if err != nil {
			return err
		}
		var key string
		var full *string
		var left int64
		_, err = pgx.ForEachRow(rows, []any{&key, &full, &left}, func() error {
			if full != nil {
				key = *full
			}
			marks = append(marks, observer.DedupMark{Key: decode(key), Keep: time.Duration(left) * time.Microsecond})
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list what was handled: %w", err)
	}
	return marks, nil
}

// PruneDedup implements [observer.DedupStateStore].
func (s *Store) PruneDedup(ctx context.Context, limit int) (removed int, err error) {
	var rows, sessions int64
	err = s.change(ctx, "prune what was handled", func(c *change) {
		c.exec(&rows, pruneDedup, s.clockNow(), limit)
		c.exec(&sessions, pruneDedupSessions, s.clockNow(), limit)
	})
	return int(rows + sessions), err
}

func (s *Store) writableTransact(ctx context.Context, fill func(*change)) error {
	if err := s.writable(); err != nil {
		return err
	}
	return s.transact(ctx, fill)
}
