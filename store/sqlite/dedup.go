package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	observer "github.com/fraiseql/observer"
)

const (
	claimDedup = `
INSERT INTO tb_dedup AS d (key, owner, until, made_at) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (key) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE d.owner <> '' AND (d.owner = excluded.owner OR d.until <= ?4)`

	findDedup = `SELECT owner, until FROM tb_dedup WHERE key = ?`

	finishDedup = `
INSERT INTO tb_dedup AS d (key, owner, until, made_at) VALUES (?1, '', ?2, ?3)
ON CONFLICT (key) DO UPDATE SET owner = '', until = max(excluded.until, iif(d.owner = '', d.until, 0))`

	releaseDedup = `DELETE FROM tb_dedup WHERE key = ? AND owner = ? AND owner <> ''`

	// Only the oldest rows are looked at: what is kept for as long ends in the order
	// in which it was made.
	pruneDedup = `
DELETE FROM tb_dedup WHERE until <= ?1 AND key IN (SELECT key FROM tb_dedup ORDER BY made_at LIMIT ?2)`

	selectDedupMarks = `
SELECT key, until FROM tb_dedup WHERE key > ? AND owner = '' AND until > ? ORDER BY key LIMIT ?`
)

// dedupQueries are those of writeQueries that are about handlings.
func dedupQueries() []string {
	return []string{
		claimDedup, findDedup, finishDedup, releaseDedup, pruneDedup,
		changeDedupView, holdDedupSession, endDedupSession, pruneDedupSessions,
	}
}

// ClaimDedup implements [observer.DedupStore].
func (s *Store) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (answer observer.DedupAnswer, err error) {
	err = s.write(ctx, "claim "+c.Key, func(tx *session) (err error) {
		answer, err = tx.claimDedup(c, s.now(), lease)
		return err
	})
	return answer, err
}

func (s *session) claimDedup(c observer.DedupClaim, now time.Time, lease time.Duration) (observer.DedupAnswer, error) {
	taken, err := s.exec(claimDedup, c.Key, c.Owner, micros(now.Add(lease)), micros(now))
	if err != nil || taken > 0 {
		return observer.DedupAnswer{Standing: observer.DedupClaimed}, err
	}
	var owner string
	var until int64
	if err := s.stmt(findDedup).QueryRowContext(s.ctx, c.Key).Scan(&owner, &until); err != nil { //nolint:sqlclosecheck // closed with the transaction
		return observer.DedupAnswer{}, err
	}
	if owner == "" {
		return observer.DedupAnswer{Standing: observer.DedupDone}, nil
	}
	return observer.DedupAnswer{Standing: observer.DedupBusy, Wait: fromMicros(until).Sub(now), Owner: owner}, nil
}

// FinishDedup implements [observer.DedupStore].
func (s *Store) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	return s.write(ctx, "remember what was handled", func(tx *session) error {
		now := s.now()
		for _, m := range marks {
			if _, err := tx.exec(finishDedup, m.Key, micros(now.Add(m.Keep)), micros(now)); err != nil {
				return err
			}
		}
		return nil
	})
}

// ReleaseDedup implements [observer.DedupStore].
func (s *Store) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	return s.write(ctx, "release "+c.Key, func(tx *session) error {
		_, err := tx.exec(releaseDedup, c.Key, c.Owner)
		return err
	})
}

// DedupMarks implements [observer.DedupStateStore].
func (s *Store) DedupMarks(ctx context.Context, after string, limit int) (marks []observer.DedupMark, err error) {
	now := s.now()
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var m observer.DedupMark
		var until int64
		err := rows.Scan(&m.Key, &until)
		m.Keep = fromMicros(until).Sub(now)
		marks = append(marks, m)
		return err
	}, selectDedupMarks, after, micros(now), limit)
	if err != nil {
		return nil, fmt.Errorf("list what was handled: %w", s.explain(err))
	}
	return marks, nil
}

// PruneDedup implements [observer.DedupStateStore].
func (s *Store) PruneDedup(ctx context.Context, limit int) (removed int, err error) {
	err = s.write(ctx, "prune what was handled", func(tx *session) error {
		rows, err := tx.exec(pruneDedup, micros(s.now()), limit)
		if err != nil {
			return err
		}
		sessions, err := tx.exec(pruneDedupSessions, micros(s.now()), limit-int(rows))
		removed = int(rows + sessions)
		return err
	})
	return removed, err
}

const (
	selectDedupView = `
SELECT v.generation, v.place, v.epoch,
    NOT EXISTS (SELECT 1 FROM tb_dedup_session AS s WHERE s.adopted < v.generation AND s.until > ?)
FROM tb_dedup_view AS v`

	changeDedupView = `UPDATE tb_dedup_view SET generation = generation + 1, place = ?, epoch = ? WHERE generation = ?`

	holdDedupSession = `
INSERT INTO tb_dedup_session (session, adopted, until) VALUES (?, ?, ?)
ON CONFLICT (session) DO UPDATE SET adopted = excluded.adopted, until = excluded.until`

	endDedupSession = `DELETE FROM tb_dedup_session WHERE session = ?`

	pruneDedupSessions = `
DELETE FROM tb_dedup_session WHERE session IN (SELECT session FROM tb_dedup_session WHERE until <= ? LIMIT ?)`
)

// errNoView is about a table that somebody emptied.
var errNoView = errors.New("tb_dedup_view has no row; insert (1, 1, 'state', '') after all processes were stopped")

// DedupView implements [observer.DedupStateStore].
func (s *Store) DedupView(ctx context.Context) (v observer.DedupView, err error) {
	row := s.read.QueryRowContext(ctx, selectDedupView, micros(s.now()))
	err = row.Scan(&v.Generation, &v.Place, &v.Epoch, &v.Agreed)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoView
	}
	if err != nil {
		return v, fmt.Errorf("read where claims are made: %w", s.explain(err))
	}
	return v, nil
}

// ChangeDedupView implements [observer.DedupStateStore].
func (s *Store) ChangeDedupView(ctx context.Context, from int64, place observer.DedupPlace, epoch string) (changed bool, err error) {
	err = s.write(ctx, "change where claims are made", func(tx *session) error {
		n, err := tx.exec(changeDedupView, string(place), epoch, from)
		changed = n > 0
		return err
	})
	return changed, err
}

// HoldDedupSession implements [observer.DedupStateStore].
func (s *Store) HoldDedupSession(ctx context.Context, name string, adopted int64, lease time.Duration) error {
	return s.write(ctx, "hold session "+name, func(tx *session) error {
		_, err := tx.exec(holdDedupSession, name, adopted, micros(s.now().Add(lease)))
		return err
	})
}

// EndDedupSession implements [observer.DedupStateStore].
func (s *Store) EndDedupSession(ctx context.Context, name string) error {
	return s.write(ctx, "end session "+name, func(tx *session) error {
		_, err := tx.exec(endDedupSession, name)
		return err
	})
}
