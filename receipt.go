package observer

import (
	"context"
	"time"
)

// ReceiptBatch is what one call of SaveReceipts said about one database.
type ReceiptBatch struct {
	// Seq numbers the batches of a store in the order in which they were saved. It
	// is positive, and a store gives none twice.
	Seq int64
	// IDs are the entries of the log that are handled. One may be in several
	// batches, or come again in one.
	IDs []string
	// SavedAt is when it was stored, by the clock of the store.
	SavedAt time.Time
}

// ReceiptStore keeps what the readers of a transport have handled, until
// somebody has compared it with the change log. A group is readers that share the
// work among them, a database the one that recorded the entries. Implementations
// must pass storetest; they are used concurrently, also by several processes.
type ReceiptStore interface {
	// SaveReceipts stores that a group has handled entries, whose ids it is given by
	// database, durably: all of them or none.
	SaveReceipts(ctx context.Context, group string, handled map[string][]string) error
	// Receipts gives up to limit batches that were saved after the one with the
	// number after, in ascending order; 0 is before all of them. It never gives a
	// batch while one with a lower number may appear later: a reader that goes on
	// after the last that it was given misses none.
	Receipts(ctx context.Context, group, database string, after int64, limit int) ([]ReceiptBatch, error)
	// RemoveReceipts removes batches of a group and database. Those that are not
	// there are no error.
	RemoveReceipts(ctx context.Context, group, database string, seqs ...int64) error
	// PruneReceipts removes up to limit batches, of any group and database, that were
	// saved as long ago as keep, the oldest first. It is for what nobody compares any
	// more: keep is longer than anybody who does may be behind.
	PruneReceipts(ctx context.Context, keep time.Duration, limit int) (removed int, err error)
}
