package dedup

import (
	"context"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// flushBatch bounds how many marks are stored at once.
const flushBatch = 500

// queue has the marks that are on their way to the state store, in their order.
// Those that wait for others wait for the delay at most.
type queue struct {
	state   observer.DedupStateStore
	delay   time.Duration
	limit   int
	trouble func(error)

	mu      sync.Mutex
	marks   []observer.DedupMark
	added   uint64 // how many were ever added
	stored  uint64 // how many of them are stored
	urgent  uint64 // somebody waits for these to be stored
	changed chan struct{}
	wake    chan struct{}
}

func newQueue(cfg Config) *queue {
	return &queue{
		state: cfg.State, delay: cfg.FlushDelay, limit: cfg.MaxBehind,
		trouble: func(err error) {
			cfg.Logger.Error("what was handled cannot be stored; deliveries wait when too much is behind", "error", err)
		},
		changed: make(chan struct{}), wake: make(chan struct{}, 1),
	}
}

// add appends marks when there is room, and says which place the last one has.
func (q *queue) add(ctx context.Context, marks []observer.DedupMark) (place uint64, err error) {
	for {
		q.mu.Lock()
		if len(q.marks) < q.limit {
			q.marks = append(q.marks, marks...)
			q.added += uint64(len(marks))
			place = q.added
			q.mu.Unlock()
			q.signal()
			return place, nil
		}
		changed := q.changed
		q.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return 0, ctx.Err()
		}
	}
}

// offer appends a mark if that costs nobody any time. Whoever handled it may have
// died before the state store had it.
func (q *queue) offer(m observer.DedupMark) {
	q.mu.Lock()
	room := len(q.marks) < q.limit/2
	if room {
		q.marks = append(q.marks, m)
		q.added++
	}
	q.mu.Unlock()
	if room {
		q.signal()
	}
}

// wait returns when everything up to a place is stored.
func (q *queue) wait(ctx context.Context, place uint64) error {
	for {
		q.mu.Lock()
		stored, changed := q.stored, q.changed
		q.urgent = max(q.urgent, place)
		q.mu.Unlock()
		if stored >= place {
			return nil
		}
		q.signal()
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// waitAll returns when all that was added so far is stored.
func (q *queue) waitAll(ctx context.Context) error {
	q.mu.Lock()
	place := q.added
	q.mu.Unlock()
	return q.wait(ctx, place)
}

func (q *queue) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// run stores marks until ctx ends.
func (q *queue) run(ctx context.Context) {
	failures := 0
	for {
		select {
		case <-q.wake:
		case <-ctx.Done():
			return
		}
		q.gather(ctx)
		for q.behind() {
			err := q.flush(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				failures = 0
				continue
			}
			if failures++; failures == 1 {
				q.trouble(err)
			}
			backoff.Wait(ctx, nil, backoff.Policy{Max: time.Second}.Delay(failures))
		}
	}
}

// gather lets marks come together for a while, unless somebody waits for them.
func (q *queue) gather(ctx context.Context) {
	timer := time.NewTimer(q.delay)
	defer timer.Stop()
	for {
		q.mu.Lock()
		now := q.urgent > q.stored || len(q.marks) >= flushBatch
		q.mu.Unlock()
		if now {
			return
		}
		select {
		case <-timer.C:
			return
		case <-q.wake:
		case <-ctx.Done():
			return
		}
	}
}

func (q *queue) behind() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.marks) > 0
}

// flush stores the oldest marks.
func (q *queue) flush(ctx context.Context) error {
	q.mu.Lock()
	some := q.marks[:min(len(q.marks), flushBatch)]
	q.mu.Unlock()
	if len(some) == 0 {
		return nil
	}
	if err := q.state.FinishDedup(ctx, some...); err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.marks = append([]observer.DedupMark(nil), q.marks[len(some):]...)
	q.stored += uint64(len(some))
	close(q.changed)
	q.changed = make(chan struct{})
	return nil
}

// flushAll stores everything, once nothing else runs.
func (q *queue) flushAll(ctx context.Context) error {
	for q.behind() {
		if err := q.flush(ctx); err != nil {
			return err
		}
	}
	return nil
}
