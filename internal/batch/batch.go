// Package batch puts calls together: those that arrive while others are on
// their way share the next trip. Nobody waits for a batch to fill up.
package batch

import (
	"context"
	"sync"
	"time"
)

// Batcher runs what its callers ask for in batches. Make one with [New]. It is
// safe for concurrent use, and nothing of it runs while nobody calls.
type Batcher[Q, A any] struct {
	cfg Config[Q, A]

	mu      sync.Mutex
	waiting []*call[Q, A]
	running int
}

// Config says how to make batches.
type Config[Q, A any] struct {
	// Run answers a batch, in its order. Its error is that of every call. The
	// context ends after Timeout and not with that of a caller.
	Run func(ctx context.Context, batch []Q) ([]A, error)
	// Key names what a question is about. Two about the same do not share a batch;
	// with nil all may.
	Key func(Q) string
	// Size bounds a batch, and AtOnce how many run at the same time.
	Size, AtOnce int
	// Timeout bounds a batch.
	Timeout time.Duration
}

type call[Q, A any] struct {
	question Q
	answer   A
	err      error
	done     chan struct{}
}

// New makes a batcher.
func New[Q, A any](cfg Config[Q, A]) *Batcher[Q, A] { return &Batcher[Q, A]{cfg: cfg} }

// Do asks one question. When ctx ends first nobody waits for the answer, and
// what was asked for may be done all the same.
func (b *Batcher[Q, A]) Do(ctx context.Context, question Q) (A, error) {
	c := &call[Q, A]{question: question, done: make(chan struct{})}
	if err := ctx.Err(); err != nil {
		return c.answer, err
	}
	b.mu.Lock()
	b.waiting = append(b.waiting, c)
	start := b.running < b.cfg.AtOnce
	if start {
		b.running++
	}
	b.mu.Unlock()
	if start {
		go b.work(context.WithoutCancel(ctx))
	}
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		var none A
		return none, ctx.Err()
	}
}

// work runs batches until nobody waits.
func (b *Batcher[Q, A]) work(ctx context.Context) {
	for {
		batch := b.next()
		if len(batch) == 0 {
			return
		}
		b.run(ctx, batch)
	}
}

// next takes the calls of the next batch, the oldest first.
func (b *Batcher[Q, A]) next() []*call[Q, A] {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 {
		b.running--
		return nil
	}
	if b.cfg.Key == nil {
		n := min(len(b.waiting), b.cfg.Size)
		batch := b.waiting[:n:n]
		b.waiting = b.waiting[n:]
		return batch
	}
	var batch, rest []*call[Q, A]
	taken := map[string]bool{}
	for _, c := range b.waiting {
		key := b.cfg.Key(c.question)
		if taken[key] || len(batch) == b.cfg.Size {
			rest = append(rest, c)
			continue
		}
		taken[key] = true
		batch = append(batch, c)
	}
	b.waiting = rest
	return batch
}

func (b *Batcher[Q, A]) run(ctx context.Context, batch []*call[Q, A]) {
	ctx, cancel := context.WithTimeout(ctx, b.cfg.Timeout)
	defer cancel()
	questions := make([]Q, len(batch))
	for i, c := range batch {
		questions[i] = c.question
	}
	answers, err := b.cfg.Run(ctx, questions)
	for i, c := range batch {
		if c.err = err; err == nil {
			c.answer = answers[i]
		}
		close(c.done)
	}
}
