package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/fraiseql/observer"
)

// Prune deletes the rows before a position that were recorded before olderThan,
// and says how many. upTo is a checkpoint: nothing after it is touched, and the
// row it stands on is kept, because a later start recognizes its log by it. A
// row whose time cannot be read is as old as the one before it.
//
// It deletes BatchSize rows at a time, so that writers wait for milliseconds
// only, and stops at the first batch that is young. The file does not shrink;
// its free pages are used again.
func (s *Source) Prune(ctx context.Context, upTo observer.Position, olderThan time.Time) (deleted int64, err error) {
	if upTo == "" {
		return 0, nil
	}
	p, err := parsePosition(upTo)
	if err != nil {
		return 0, err
	}
	db, err := open(ctx, s.cfg.Path, writing)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	l, err := inspectLog(ctx, db)
	if err != nil {
		return 0, fmt.Errorf("prune %s: %w", s.cfg.Path, err)
	}
	pr := pruner{db: db, log: l, upTo: p, olderThan: olderThan, limit: s.cfg.BatchSize, after: math.MinInt64, old: true}
	for {
		n, more, err := pr.step(ctx)
		deleted += n
		if err != nil {
			return deleted, fmt.Errorf("prune %s: %w", s.cfg.Path, err)
		}
		if !more {
			return deleted, nil
		}
	}
}

type pruner struct {
	db        *sql.DB
	log       *changeLog
	upTo      place
	olderThan time.Time
	limit     int
	// after is the last key looked at, old whether that row was old.
	after int64
	old   bool
}

// step looks at one batch without a lock, then deletes the old rows of it.
func (p *pruner) step(ctx context.Context) (deleted int64, more bool, err error) {
	keys, seen, err := p.candidates(ctx)
	if err != nil || len(keys) == 0 {
		return 0, false, err
	}
	list, err := json.Marshal(keys)
	if err != nil {
		return 0, false, err
	}
	tx, err := p.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, false, err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	// The position is checked under the write lock: a restored log has other
	// rows under the same keys, and they have not been handled.
	why, err := displaced(ctx, tx, p.log.epoch, p.upTo)
	if err != nil {
		return 0, false, err
	}
	if why != "" {
		return 0, false, fmt.Errorf("nothing deleted: %s", why)
	}
	res, err := tx.ExecContext(ctx, `DELETE FROM tb_entity_change_log
		WHERE pk_entity_change_log IN (SELECT value FROM json_each(?))`, string(list))
	if err != nil {
		return 0, false, err
	}
	if deleted, err = res.RowsAffected(); err != nil {
		return 0, false, err
	}
	if err := tx.Commit(); err != nil {
		return 0, false, err
	}
	return deleted, seen == p.limit, nil
}

// candidates are the old rows of the next batch; seen counts all its rows.
func (p *pruner) candidates(ctx context.Context) (keys []int64, seen int, err error) {
	rows, err := p.db.QueryContext(ctx, `SELECT pk_entity_change_log, +created_at FROM tb_entity_change_log
		WHERE pk_entity_change_log > ? AND pk_entity_change_log < ? ORDER BY pk_entity_change_log LIMIT ?`,
		p.after, p.upTo.pk, p.limit)
	if err != nil {
		return nil, 0, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var created any
		if err := rows.Scan(&p.after, &created); err != nil {
			return nil, 0, err
		}
		seen++
		if t, err := parseTime(created); err == nil {
			p.old = t.Before(p.olderThan)
		}
		if p.old {
			keys = append(keys, p.after)
		}
	}
	return keys, seen, rows.Err()
}
