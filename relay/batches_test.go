package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// batches is a handler that takes many events at once.
type batches struct {
	recorder

	given [][]string
	// handle decides about a batch, by its ids.
	handle func(ctx context.Context, ids []string) error
}

func (b *batches) HandleBatch(ctx context.Context, events []*observer.Event) error {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	b.mu.Lock()
	b.given = append(b.given, ids)
	b.mu.Unlock()
	if b.handle != nil {
		if err := b.handle(ctx, ids); err != nil {
			return err
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seen = append(b.seen, ids...)
	return nil
}

func numbers(from, n int) (events []*observer.Event, ids []string) {
	for i := range n {
		id := fmt.Sprintf("e%03d", from+i)
		events, ids = append(events, event(id, id)), append(ids, id)
	}
	return events, ids
}

func TestBatchesKeepTheOrderOfTheLogAndComeAgainAfterAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		first, firstIDs := numbers(0, 25)
		second, secondIDs := numbers(25, 25)
		log.Append(first...)
		log.AppendMalformed([]byte(`{}`), "id is NULL")
		log.Append(second...)
		h, failed := &batches{}, 0
		h.handle = func(_ context.Context, ids []string) error {
			if slices.Contains(ids, "e010") && failed < 3 {
				failed++
				return errors.New("the stream is full")
			}
			return nil
		}
		cfg := config(log, h, store)
		cfg.Batch = 10
		atMalformed := -1
		cfg.Malformed = func(context.Context, *observer.Malformed) error {
			atMalformed = len(h.all())
			return nil
		}
		stop := start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(append(firstIDs, secondIDs...), h.all()); d != "" {
			t.Error(d)
		}
		if atMalformed != 25 {
			t.Errorf("the malformed entry was handed over after %d events, want 25", atMalformed)
		}
		if failed != 3 {
			t.Errorf("%d batches failed, want 3", failed)
		}
		for _, ids := range h.given {
			if len(ids) > cfg.Batch {
				t.Errorf("a batch of %d events, want at most %d", len(ids), cfg.Batch)
			}
		}
		if cp := checkpoint(t, store, "log"); len(cp.Done) != 0 {
			t.Errorf("handled in order, and %v stand above the position", cp.Done)
		}
	})
}

// A handler that has room for a part of a batch says so. That part is handled,
// and does not come again, also to another process.
func TestPartOfABatchIsHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		events, ids := numbers(0, 30)
		log.Append(events...)
		h, room := &batches{}, 13
		h.handle = func(_ context.Context, ids []string) error {
			if len(ids) <= room {
				room -= len(ids)
				return nil
			}
			n := room
			room = 0
			h.mu.Lock()
			defer h.mu.Unlock()
			h.seen = append(h.seen, ids[:n]...)
			return observer.Partly(n, errors.New("the stream is full"))
		}
		cfg := config(log, h, store)
		cfg.Batch = 10
		stop := start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ids[:13], h.all()); d != "" {
			t.Fatal(d)
		}
		room = 100
		stop = start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ids, h.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestInvariant7StoppedBetweenBatchesLosesNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		events, ids := numbers(0, 40)
		log.Append(events...)
		h := &batches{}
		h.handle = func(context.Context, []string) error { <-time.After(time.Second); return nil }
		cfg := config(log, h, store)
		cfg.Batch = 10
		stop := start(t, cfg)
		<-time.After(1500 * time.Millisecond)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		// How many events the first batch has depends on how many were read by then.
		if got := len(h.all()); len(h.given) != 2 || got != len(slices.Concat(h.given...)) {
			t.Fatalf("%d events were handled of %d batches, want the batch that had begun and the one before", got, len(h.given))
		}
		stop = start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ids, h.all()); d != "" {
			t.Error(d)
		}
	})
}
