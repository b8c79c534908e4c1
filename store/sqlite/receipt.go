package sqlite

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/idlist"
)

const (
	insertReceipts = `INSERT INTO tb_receipt (group_name, database_name, saved_at, ids) VALUES (?, ?, ?, ?)`

	selectReceipts = `
SELECT seq, saved_at, ids FROM tb_receipt WHERE group_name = ? AND database_name = ? AND seq > ? ORDER BY seq LIMIT ?`

	removeReceipts = `DELETE FROM tb_receipt WHERE seq = ? AND group_name = ? AND database_name = ?`

	// pruneReceipts looks at the oldest only: if they stay, all stay.
	pruneReceipts = `
DELETE FROM tb_receipt WHERE seq IN (SELECT seq FROM (SELECT seq, saved_at FROM tb_receipt ORDER BY seq LIMIT ?1) WHERE saved_at <= ?2)`
)

// receiptQueries are those of writeQueries that are about receipts.
func receiptQueries() []string { return []string{insertReceipts, removeReceipts, pruneReceipts} }

// SaveReceipts implements [observer.ReceiptStore]. One process writes at a time, so
// numbers are given in the order of the commits.
func (s *Store) SaveReceipts(ctx context.Context, group string, handled map[string][]string) error {
	return s.write(ctx, "save receipts of "+group, func(tx *session) error {
		now := micros(s.now())
		for database, ids := range handled {
			for part := range slices.Chunk(ids, idlist.Max) {
				if _, err := tx.exec(insertReceipts, group, database, now, idlist.Encode(part)); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Receipts implements [observer.ReceiptStore].
func (s *Store) Receipts(ctx context.Context, group, database string, after int64, limit int) (found []observer.ReceiptBatch, err error) {
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var b observer.ReceiptBatch
		var savedAt int64
		var ids []byte
		err := rows.Scan(&b.Seq, &savedAt, &ids)
		if err != nil {
			return err
		}
		if b.IDs, err = idlist.Decode(ids); err != nil {
			return fmt.Errorf("row %d of tb_receipt is damaged, delete it: %w", b.Seq, err)
		}
		b.SavedAt = fromMicros(savedAt)
		found = append(found, b)
		return nil
	}, selectReceipts, group, database, after, limit)
	if err != nil {
		return nil, fmt.Errorf("read receipts of %s: %w", group, s.explain(err))
	}
	return found, nil
}

// RemoveReceipts implements [observer.ReceiptStore].
func (s *Store) RemoveReceipts(ctx context.Context, group, database string, seqs ...int64) error {
	return s.write(ctx, "remove receipts of "+group, func(tx *session) error {
		for _, seq := range seqs {
			if _, err := tx.exec(removeReceipts, seq, group, database); err != nil {
				return err
			}
		}
		return nil
	})
}

// PruneReceipts implements [observer.ReceiptStore].
func (s *Store) PruneReceipts(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	err = s.write(ctx, "prune receipts", func(tx *session) error {
		n, err := tx.exec(pruneReceipts, limit, micros(s.now().Add(-keep)))
		removed = int(n)
		return err
	})
	return removed, err
}
