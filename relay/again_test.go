package relay_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// failingSource has streams that fail when they are told to. Entries in hidden are
// not visible yet: a stream gives them, in their place, once they are.
type failingSource struct {
	*memory.Log

	fail   chan struct{}
	hidden func(msg *observer.Message) bool
}

func (s *failingSource) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	stream, err := s.Log.Open(ctx, after)
	return &failingStream{stream, s}, err
}

type failingStream struct {
	observer.Stream

	src *failingSource
}

func (s *failingStream) Next(ctx context.Context) (observer.Message, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	go func() {
		select {
		case <-s.src.fail:
			cancel(errors.New("connection reset"))
		case <-ctx.Done():
		}
	}()
	for {
		msg, err := s.Stream.Next(ctx)
		if err != nil || s.src.hidden == nil || !s.src.hidden(&msg) {
			return msg, err
		}
	}
}

// slowly is a handler that keeps an event until it is released.
func slowly(id string) (h *recorder, release func()) {
	released := make(chan struct{})
	return &recorder{before: func(ctx context.Context, e *observer.Event) error {
		if e.ID != id {
			return nil
		}
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, func() { close(released) }
}

// An event may stand in the log twice: it was published again while the first copy is
// still there. However often the stream fails meanwhile, both are handled once each, and
// the checkpoint ends at the end of the log.
func TestTwinsInTheWindowAreHandledOnceEach(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		twin := event("a", "a")
		log.Append(event("slow", "slow"), twin, event("b", "b"), twin, event("c", "c"))
		h, release := slowly("slow")
		src := &failingSource{Log: log, fail: make(chan struct{})}
		stop := start(t, config(src, h, store))
		for range 3 {
			<-time.After(time.Minute)
			src.fail <- struct{}{}
		}
		<-time.After(time.Minute)
		release()
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := h.all()
		slices.Sort(got)
		if d := cmp.Diff([]string{"a", "a", "b", "c", "slow"}, got); d != "" {
			t.Errorf("handled (-want +got):\n%s", d)
		}
		nothingIsLeft(t, log, store)
	})
}

// Both copies are remembered by the checkpoint, too.
func TestTwinsAboveTheCheckpointAreNotHandledAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		twin := event("a", "a")
		log.Append(event("slow", "slow"), twin, twin)
		h, release := slowly("slow")
		cfg := config(log, h, store)
		cfg.DrainTimeout = time.Second
		stop := start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		release()
		log.Append(twin)
		stop = start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := h.all()
		slices.Sort(got)
		if d := cmp.Diff([]string{"a", "a", "a", "slow"}, got); d != "" {
			t.Errorf("handled in both lives (-want +got):\n%s", d)
		}
		nothingIsLeft(t, log, store)
	})
}

// nothingIsLeft checks that a restart would read nothing again.
func nothingIsLeft(t *testing.T, log *memory.Log, store observer.CheckpointStore) {
	t.Helper()
	cp := checkpoint(t, store, log.Name())
	if _, err := log.Prune(cp.Position); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 || len(cp.Done) > 0 {
		t.Errorf("%d entries stand after the checkpoint, and it remembers %q; want neither", log.Len(), cp.Done)
	}
}

// What becomes visible in front of entries that were read is read when the stream is
// opened again. The checkpoint still does not fall behind what is handled.
func TestEntryInFrontOfTheWindowTakesNothingBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		log.Append(event("slow", "slow"), event("late", "late"), event("b", "b"), event("c", "c"))
		h, release := slowly("slow")
		var committed atomic.Bool
		src := &failingSource{Log: log, fail: make(chan struct{}), hidden: func(msg *observer.Message) bool {
			return msg.ID() == "late" && !committed.Load()
		}}
		stop := start(t, config(src, h, store))
		<-time.After(time.Minute)
		committed.Store(true)
		src.fail <- struct{}{}
		<-time.After(time.Minute)
		release()
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if got := h.all(); len(got) != 4 {
			t.Errorf("handled %q, want each once", got)
		}
		nothingIsLeft(t, log, store)
	})
}

// A message that only says how far the log was passed is nothing to remember.
func TestPassingWithoutAnIDIsNotRemembered(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		log.Append(event("slow", "slow"), event("", ""), event("", ""), event("", ""))
		h, release := slowly("slow")
		cfg := config(passing{log, ""}, h, store)
		var told []string
		cfg.Receipts = func(_ context.Context, handled []relay.Receipt) error {
			for _, r := range handled {
				told = append(told, r.ID)
			}
			return nil
		}
		stop := start(t, cfg)
		<-time.After(time.Minute)
		log.Append(event("b", "b"))
		<-time.After(time.Minute)
		cp, err := store.LoadCheckpoint(t.Context(), "log") // there is none when b is in the lane of the slow one
		if slices.Contains(cp.Done, "") || err != nil && !errors.Is(err, observer.ErrNotFound) {
			t.Errorf("the checkpoint remembers %q, want what has an id (%v)", cp.Done, err)
		}
		release()
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		slices.Sort(told)
		if d := cmp.Diff([]string{"b", "slow"}, told); d != "" {
			t.Error("receipts", d)
		}
		nothingIsLeft(t, log, store)
	})
}
