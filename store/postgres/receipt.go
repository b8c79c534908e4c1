package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/idlist"
)

const (
	insertReceipts = `
INSERT INTO {{schema}}.tb_receipt (group_name, database_name, saved_at, ids)
SELECT $2, a.name, ` + clock + `, a.ids FROM unnest($3::text[], $4::bytea[]) AS a(name, ids)`

	lastReceipt = `SELECT coalesce(max(seq), 0) FROM {{schema}}.tb_receipt`

	selectReceipts = `
SELECT seq, saved_at, ids FROM {{schema}}.tb_receipt
WHERE group_name = $1 AND database_name = $2 AND seq > $3 AND seq <= $4 ORDER BY seq LIMIT $5`

	// removeReceipts is kept from the index by the names: it would read all of them.
	removeReceipts = `
DELETE FROM {{schema}}.tb_receipt WHERE seq = ANY ($1::bigint[]) AND group_name || '' = $2 AND database_name || '' = $3`

	// pruneReceipts looks at the oldest only: if they stay, all stay.
	pruneReceipts = `
DELETE FROM {{schema}}.tb_receipt WHERE seq IN (
    SELECT seq FROM (SELECT seq, saved_at FROM {{schema}}.tb_receipt ORDER BY seq LIMIT $3) AS oldest
    WHERE saved_at <= ` + clock + ` - $2 * interval '1 microsecond')`
)

// receiptLock is held, shared, by those who save receipts, from before a number is
// given until the commit. Numbers become visible in another order than they are
// given; whoever holds it alone for a moment knows that none below the highest is
// on its way.
func (s *Store) receiptLock() int64 { return s.schema.lockID("receipts") }

// SaveReceipts implements [observer.ReceiptStore].
func (s *Store) SaveReceipts(ctx context.Context, group string, handled map[string][]string) error {
	what := "save receipts of " + group
	var databases []string
	var lists [][]byte
	for database, ids := range handled {
		name, _ := s.texts.name(database)
		for part := range slices.Chunk(ids, idlist.Max) {
			databases, lists = append(databases, name), append(lists, idlist.Encode(part))
		}
	}
	if len(lists) == 0 {
		return ctx.Err()
	}
	name, _ := s.texts.name(group)
	var saved int64
	err := s.change(ctx, what, func(c *change) {
		c.run(lockShared, s.receiptLock())
		c.exec(&saved, insertReceipts, s.clockNow(), name, databases, lists)
	})
	if err == nil && saved != int64(len(lists)) {
		return fmt.Errorf("%s: %s stored %d rows instead of %d; remove what was added to the table tb_receipt", what, s.at, saved, len(lists))
	}
	return err
}

// Receipts implements [observer.ReceiptStore]. What the lock is needed for is
// little: nobody waits for a reader that is slow to take what it is given.
func (s *Store) Receipts(ctx context.Context, group, database string, after int64, limit int) (found []observer.ReceiptBatch, err error) {
	groupName, _ := s.texts.name(group)
	databaseName, _ := s.texts.name(database)
	var last int64
	if err = s.transact(ctx, func(c *change) {
		c.run(lockAlone, s.receiptLock())
		c.rows(func(rows pgx.Rows) (err error) {
			last, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
			return err
		}, lastReceipt)
	}); err == nil {
		err = s.look(ctx, func(c *change) {
			c.rows(readReceipts(&found), selectReceipts, groupName, databaseName, after, last, limit)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read receipts of %s: %w", group, err)
	}
	return found, nil
}

func readReceipts(into *[]observer.ReceiptBatch) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		var b observer.ReceiptBatch
		var savedAt pgtype.Timestamptz
		var list []byte
		_, err := pgx.ForEachRow(rows, []any{&b.Seq, &savedAt, &list}, func() (err error) {
			if b.IDs, err = idlist.Decode(list); err != nil {
				return fmt.Errorf("row %d of tb_receipt is damaged, delete it: %w", b.Seq, err)
			}
			b.SavedAt = timeOf(savedAt)
			*into = append(*into, b)
			return nil
		})
		return err
	}
}

// RemoveReceipts implements [observer.ReceiptStore].
func (s *Store) RemoveReceipts(ctx context.Context, group, database string, seqs ...int64) error {
	if len(seqs) == 0 {
		return ctx.Err()
	}
	groupName, _ := s.texts.name(group)
	databaseName, _ := s.texts.name(database)
	return s.change(ctx, "remove receipts of "+group, func(c *change) {
		c.run(removeReceipts, seqs, groupName, databaseName)
	})
}

// PruneReceipts implements [observer.ReceiptStore].
func (s *Store) PruneReceipts(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	var rows int64
	err = s.change(ctx, "prune receipts", func(c *change) {
		c.exec(&rows, pruneReceipts, s.clockNow(), keep.Microseconds(), limit)
	})
	return int(rows), err
}
