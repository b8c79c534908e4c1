package reconcile

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/idlist"
)

// page is how many batches of receipts are read at a time.
const page = 500

// mark stands for an id: the bytes of a UUID, or the beginning of a digest.
type mark [16]byte

func markOf(id string) mark {
	if u, ok := idlist.UUID(id); ok {
		return u
	}
	sum := sha256.Sum256([]byte(id))
	return mark(sum[:16])
}

// receipts are those that were read from the store and may be needed: for an event
// that was not read from the log yet, or one that is in no saved checkpoint. A
// verifier that starts again reads them again, so they stay in the store as long.
type receipts struct {
	cfg Config

	mu sync.Mutex
	// after is the last batch that was read.
	after int64
	// in says in which batch an id is.
	in map[mark]int64
	// left are the batches with ids of which the checkpoint does not know.
	left map[int64]*left
	// done are the batches to remove.
	done []int64
	// swept is when old ones were looked for.
	swept time.Time
}

type left struct {
	ids     int
	savedAt time.Time
}

func newReceipts(cfg Config) *receipts {
	return &receipts{cfg: cfg, in: map[mark]int64{}, left: map[int64]*left{}, swept: time.Now()}
}

// strikeOff removes from b what has a receipt. It reads until nothing is lacking
// or nothing more is stored.
func (r *receipts) strikeOff(ctx context.Context, b *batch) error {
	for {
		r.strike(b)
		if len(b.lacking) == 0 {
			return nil
		}
		batches, err := r.cfg.Receipts.Receipts(ctx, r.cfg.Group, r.cfg.Database, r.next(), page)
		if err != nil {
			return fmt.Errorf("read what is handled: %w", err)
		}
		r.add(batches)
		if len(batches) < page {
			r.strike(b)
			return nil
		}
	}
}

func (r *receipts) next() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.after
}

func (r *receipts) strike(b *batch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var lacking []*observer.Event
	for _, e := range b.lacking {
		if _, there := r.in[markOf(e.ID)]; !there {
			lacking = append(lacking, e)
		}
	}
	b.lacking = lacking
}

func (r *receipts) add(batches []observer.ReceiptBatch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, batch := range batches {
		l := &left{savedAt: batch.SavedAt}
		for _, id := range batch.IDs {
			m := markOf(id)
			if _, there := r.in[m]; !there {
				r.in[m] = batch.Seq
				l.ids++
			}
		}
		r.after = batch.Seq
		r.left[batch.Seq] = l
		r.drop(batch.Seq, 0)
	}
}

// drop says that n ids of a batch are needed no more.
func (r *receipts) drop(seq int64, n int) {
	l := r.left[seq]
	if l.ids -= n; l.ids == 0 {
		delete(r.left, seq)
		r.done = append(r.done, seq)
	}
}

// saved forgets ids that a checkpoint has, and removes batches of which nothing is
// left.
func (r *receipts) saved(ctx context.Context, ids []string) error {
	r.mu.Lock()
	for _, id := range ids {
		m := markOf(id)
		if seq, there := r.in[m]; there {
			delete(r.in, m)
			r.drop(seq, 1)
		}
	}
	done := slices.Clone(r.done)
	r.mu.Unlock()
	if len(done) == 0 {
		return nil
	}
	if err := r.cfg.Receipts.RemoveReceipts(ctx, r.cfg.Group, r.cfg.Database, done...); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done = slices.Delete(r.done, 0, len(done)) // others are only added behind
	return nil
}

// verified has old receipts forgotten, now and then. An event that was recorded
// after a receipt was saved comes after all those that the receipt is about.
func (r *receipts) verified(events []*observer.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	if now.Sub(r.swept) < r.cfg.Retention/100 {
		return
	}
	r.swept = now
	until := now.Add(-r.cfg.Retention)
	for _, e := range events {
		if e.Timestamp.Before(until) {
			until = e.Timestamp
		}
	}
	old := map[int64]bool{}
	for seq, l := range r.left {
		if l.savedAt.Before(until) {
			old[seq] = true
			delete(r.left, seq)
			r.done = append(r.done, seq)
		}
	}
	if len(old) == 0 {
		return
	}
	for m, seq := range r.in {
		if old[seq] {
			delete(r.in, m)
		}
	}
}

// size is how many ids are held.
func (r *receipts) size() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.in)
}
