package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/idlist"
)

// receipts are the batches, by ascending number.
type receipts struct {
	batches []receipt
	last    int64 // the last number given
}

type receipt struct {
	group, database string
	batch           observer.ReceiptBatch
}

// SaveReceipts implements [observer.ReceiptStore], except that nothing is
// durable.
func (s *Store) SaveReceipts(ctx context.Context, group string, handled map[string][]string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("save receipts of %s: %w", group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for database, ids := range handled {
		for part := range slices.Chunk(ids, idlist.Max) {
			s.receipts.last++
			s.receipts.batches = append(s.receipts.batches, receipt{group, database, observer.ReceiptBatch{
				Seq: s.receipts.last, IDs: slices.Clone(part), SavedAt: s.clock(),
			}})
		}
	}
	return nil
}

// Receipts implements [observer.ReceiptStore].
func (s *Store) Receipts(ctx context.Context, group, database string, after int64, limit int) (found []observer.ReceiptBatch, err error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read receipts of %s: %w", group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.receipts.batches {
		r := &s.receipts.batches[i]
		if len(found) < limit && r.group == group && r.database == database && r.batch.Seq > after {
			batch := r.batch
			batch.IDs = slices.Clone(batch.IDs)
			found = append(found, batch)
		}
	}
	return found, nil
}

// RemoveReceipts implements [observer.ReceiptStore].
func (s *Store) RemoveReceipts(ctx context.Context, group, database string, seqs ...int64) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("remove receipts of %s: %w", group, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	gone := make(map[int64]bool, len(seqs))
	for _, seq := range seqs {
		gone[seq] = true
	}
	s.receipts.batches = slices.DeleteFunc(s.receipts.batches, func(r receipt) bool {
		return gone[r.batch.Seq] && r.group == group && r.database == database
	})
	return nil
}

// PruneReceipts implements [observer.ReceiptStore].
func (s *Store) PruneReceipts(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("prune receipts: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until := s.clock().Add(-keep)
	for removed < min(limit, len(s.receipts.batches)) && !s.receipts.batches[removed].batch.SavedAt.After(until) {
		removed++
	}
	s.receipts.batches = slices.Delete(s.receipts.batches, 0, removed)
	return removed, nil
}
