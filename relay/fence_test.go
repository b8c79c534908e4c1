package relay_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// lease is one that a test gives and takes.
type lease struct {
	term int64

	mu      sync.Mutex
	unknown chan struct{} // nil while it is held
	lost    error
}

func (*lease) Name() string  { return "database/log" }
func (l *lease) Term() int64 { return l.term }

func (l *lease) Await(ctx context.Context) error {
	l.mu.Lock()
	unknown := l.unknown
	l.mu.Unlock()
	if unknown != nil {
		select {
		case <-unknown:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

func (l *lease) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unknown = make(chan struct{})
}

// settle ends the doubt: lost is nil when the lease is held.
func (l *lease) settle(lost error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost = lost
	if l.unknown != nil {
		close(l.unknown)
		l.unknown = nil
	}
}

// fencedStore refuses checkpoints of other terms.
type fencedStore struct {
	*memorystore.Store

	mu    sync.Mutex
	term  int64
	saved []int64
}

func (s *fencedStore) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cp.Lease != "database/log" || cp.Term != s.term {
		return fmt.Errorf("checkpoint %s: %w", name, observer.ErrFenced)
	}
	s.saved = append(s.saved, cp.Term)
	cp.Lease, cp.Term = "", 0
	return s.Store.SaveCheckpoint(ctx, name, cp)
}

func (s *fencedStore) setTerm(term int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = term
}

func TestInvariant5NothingBeginsWhileTheLeaseIsInDoubt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store, held := memory.New("log"), &fencedStore{Store: memorystore.New(memorystore.Config{}), term: 7}, &lease{term: 7}
		h := &recorder{}
		cfg := config(log, h, store)
		cfg.Lease = held
		stop := start(t, cfg)
		log.Append(event("a", "x"))
		synctest.Wait()
		held.doubt()
		log.Append(event("b", "x"), event("c", "y"))
		<-time.After(time.Minute)
		if d := cmp.Diff([]string{"a"}, h.all()); d != "" {
			t.Error(d)
		}
		held.settle(nil)
		<-time.After(time.Second)
		if got := h.all(); len(got) != 3 {
			t.Errorf("handled %v once the lease was confirmed, want all three", got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for _, term := range store.saved {
			if term != 7 {
				t.Errorf("a checkpoint was saved under the term %d", term)
			}
		}
	})
}

// What is done for an event can tell under which lease it was read.
func TestHandlersKnowTheLease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &fencedStore{Store: memorystore.New(memorystore.Config{}), term: 7}
		var got observer.Lease
		cfg := config(log, &recorder{before: func(ctx context.Context, _ *observer.Event) error {
			got = observer.LeaseOf(ctx)
			return nil
		}}, store)
		cfg.Lease = &lease{term: 7}
		log.Append(event("a", "x"))
		stop := start(t, cfg)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(observer.Lease{Name: "database/log", Term: 7}, got); d != "" {
			t.Error(d)
		}
	})
}

func TestInvariant5FencedRelayEnds(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(l *lease, s *fencedStore){
		"told by the lease": func(l *lease, _ *fencedStore) { l.settle(fmt.Errorf("somebody else has it: %w", observer.ErrFenced)) },
		"told by the store": func(_ *lease, s *fencedStore) { s.setTerm(8) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log, store, held := memory.New("log"), &fencedStore{Store: memorystore.New(memorystore.Config{}), term: 7}, &lease{term: 7}
				h := &recorder{}
				cfg := config(log, h, store)
				cfg.Lease = held
				ended := make(chan error, 1)
				go func() { ended <- relay.New(cfg).Run(t.Context()) }()
				log.Append(event("a", "x"))
				synctest.Wait()
				<-time.After(time.Second)
				before := checkpoint(t, store, "log")
				lose(held, store)
				log.Append(event("b", "x"))
				<-time.After(time.Second)
				log.Append(event("c", "x"))
				if err := <-ended; !errors.Is(err, observer.ErrFenced) {
					t.Errorf("the relay ended with %v, want that it was fenced", err)
				}
				if d := cmp.Diff(before, checkpoint(t, store, "log")); d != "" {
					t.Error("a fenced relay moved the checkpoint:", d)
				}
				for _, id := range h.all() {
					if id == "c" {
						t.Error("a fenced relay went on to handle c")
					}
				}
			})
		})
	}
}

func TestPassedEntriesMoveThePosition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		log.Append(event("mine", "x"), event("other", "x"), event("last", "x"))
		h := &recorder{}
		cfg := config(passing{log, "other"}, h, store)
		var told []relay.Receipt
		cfg.Receipts = func(_ context.Context, handled []relay.Receipt) error {
			told = append(told, handled...)
			return nil
		}
		stop := start(t, cfg)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"mine", "last"}, h.all()); d != "" {
			t.Error(d)
		}
		if len(told) != 3 {
			t.Errorf("receipts for %v, want one for each entry", told)
		}
		if _, err := log.Prune(checkpoint(t, store, "log").Position); err != nil || log.Len() != 0 {
			t.Errorf("%d entries stand after the checkpoint (%v), want none", log.Len(), err)
		}
	})
}

// passing passes over the event with an id.
type passing struct {
	*memory.Log

	id string
}

func (p passing) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	s, err := p.Log.Open(ctx, after)
	return passingStream{s, p.id}, err
}

type passingStream struct {
	observer.Stream

	id string
}

func (s passingStream) Next(ctx context.Context) (observer.Message, error) {
	msg, err := s.Stream.Next(ctx)
	if err == nil && msg.ID() == s.id {
		msg.Event, msg.Passed = nil, s.id
	}
	return msg, err
}

// A checkpoint never says more than the receipts do.
func TestReceiptsComeBeforeTheCheckpoint(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		h := &recorder{}
		cfg := config(log, h, store)
		told, refuse := map[string]int{}, 3
		cfg.Receipts = func(_ context.Context, handled []relay.Receipt) error {
			if refuse > 0 {
				refuse--
				return errors.New("the store is away")
			}
			for _, r := range handled {
				told[r.ID]++
			}
			return nil
		}
		events, ids := numbers(0, 20)
		log.Append(events...)
		stop := start(t, cfg)
		synctest.Wait()
		if cp, err := store.LoadCheckpoint(t.Context(), "log"); err == nil && cp.Position != "" {
			t.Errorf("the checkpoint is at %s before a receipt was stored", cp.Position)
		}
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		for _, id := range ids {
			if told[id] != 1 {
				t.Errorf("%d receipts for %s, want 1", told[id], id)
			}
		}
	})
}
