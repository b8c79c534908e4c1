package relay_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strconv"
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

// recorder is a handler that remembers what it was given.
type recorder struct {
	mu   sync.Mutex
	seen []string
	// before is called for each event, outside the lock.
	before func(ctx context.Context, e *observer.Event) error
}

func (r *recorder) Handle(ctx context.Context, e *observer.Event) error {
	if r.before != nil {
		if err := r.before(ctx, e); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, e.ID)
	return nil
}

func (r *recorder) all() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.seen)
}

func event(id, entity string) *observer.Event {
	return &observer.Event{ID: id, Operation: observer.Update, EntityType: "Order", EntityID: entity}
}

func config(log observer.Source, h observer.Handler, store observer.CheckpointStore) relay.Config {
	return relay.Config{
		Source: log, Handler: h, Checkpoints: store, Lanes: 4, Logger: slog.New(slog.DiscardHandler),
		Malformed: func(context.Context, *observer.Malformed) error { return nil },
	}
}

// start runs a relay and returns how to stop it.
func start(t *testing.T, cfg relay.Config) (stop func() error) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- relay.New(cfg).Run(ctx) }()
	return func() error { cancel(); return <-ended }
}

func checkpoint(t *testing.T, store observer.CheckpointStore, name string) observer.Checkpoint {
	t.Helper()
	cp, err := store.LoadCheckpoint(t.Context(), name)
	if err != nil {
		t.Fatalf("load checkpoint: %v", err)
	}
	return cp
}

func TestInvariant4OrderWithinAnEntityParallelAcross(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		var running, most int
		var mu sync.Mutex
		h := &recorder{before: func(context.Context, *observer.Event) error {
			mu.Lock()
			running++
			most = max(most, running)
			mu.Unlock()
			<-time.After(10 * time.Millisecond)
			mu.Lock()
			running--
			mu.Unlock()
			return nil
		}}
		for version := range 5 {
			for entity := range 8 {
				log.Append(event(fmt.Sprintf("%d/%d", entity, version), strconv.Itoa(entity)))
			}
		}
		stop := start(t, config(log, h, store))
		synctest.Wait()
		<-time.After(time.Second)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		next := map[string]int{}
		for _, id := range h.all() {
			var entity string
			var version int
			if _, err := fmt.Sscanf(id, "%1s/%d", &entity, &version); err != nil {
				t.Fatal(err)
			}
			if version != next[entity] {
				t.Errorf("entity %s: version %d came when %d was next", entity, version, next[entity])
			}
			next[entity]++
		}
		if len(h.all()) != 40 || most < 2 {
			t.Errorf("%d of 40 handled, %d at most at a time", len(h.all()), most)
		}
	})
}

func TestInvariant1CheckpointStaysBehindWhatIsNotHandled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		release := make(chan struct{})
		h := &recorder{before: func(ctx context.Context, e *observer.Event) error {
			if e.ID == "slow" {
				select {
				case <-release:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}}
		cfg := config(log, h, store)
		cfg.Lanes = 64
		log.Append(event("first", "f"))
		stop := start(t, cfg)
		synctest.Wait()
		log.Append(event("slow", "s"))
		for i := range 5 {
			log.Append(event("fast-"+strconv.Itoa(i), strconv.Itoa(i)))
		}
		<-time.After(time.Second)
		cp := checkpoint(t, store, "log")
		if got := len(h.all()) - 1 - len(cp.Done); got != 0 {
			t.Errorf("the checkpoint forgets %d finished events", got)
		}
		stream, err := log.Open(t.Context(), cp.Position)
		if err != nil {
			t.Fatal(err)
		}
		next, err := stream.Next(t.Context())
		if err != nil || next.Event.ID != "slow" {
			t.Errorf("the checkpoint resumes at %v (%v), want the slow event", next.Event, err)
		}
		close(release)
		synctest.Wait() // for what shares the lane of the slow one
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if cp := checkpoint(t, store, "log"); len(cp.Done) != 0 {
			t.Errorf("after the drain the checkpoint still holds %v", cp.Done)
		}
	})
}

// brokenSource fails after every few messages, and sometimes does not open.
type brokenSource struct {
	*memory.Log
	opens int
}

func (s *brokenSource) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	s.opens++
	if s.opens%3 == 2 {
		return nil, errors.New("refused")
	}
	stream, err := s.Log.Open(ctx, after)
	return &brokenStream{Stream: stream, left: 2}, err
}

type brokenStream struct {
	observer.Stream
	left int
}

func (s *brokenStream) Next(ctx context.Context) (observer.Message, error) {
	if s.left == 0 {
		return observer.Message{}, errors.New("connection reset")
	}
	s.left--
	return s.Stream.Next(ctx)
}

func TestReopensAfterEverySourceErrorWithoutLossOrRepeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		var want []string
		for i := range 20 {
			log.Append(event(fmt.Sprintf("e%02d", i), "same"))
			want = append(want, fmt.Sprintf("e%02d", i))
		}
		h := &recorder{before: func(context.Context, *observer.Event) error {
			<-time.After(300 * time.Millisecond)
			return nil
		}}
		stop := start(t, config(&brokenSource{Log: log}, h, store))
		<-time.After(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, h.all()); d != "" {
			t.Errorf("handled (-want +got):\n%s", d)
		}
	})
}

func TestHandlerErrorIsTriedAgainAndNeverSkipped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		failures := 0
		h := &recorder{before: func(_ context.Context, e *observer.Event) error {
			if e.ID == "b" && failures < 5 {
				failures++
				return errors.New("store is away")
			}
			return nil
		}}
		log.Append(event("a", "x"), event("b", "x"), event("c", "x"))
		stop := start(t, config(log, h, store))
		<-time.After(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a", "b", "c"}, h.all()); d != "" {
			t.Errorf("handled (-want +got):\n%s", d)
		}
	})
}

func TestInFlightIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		for i := range 100 {
			log.Append(event(strconv.Itoa(i), strconv.Itoa(i)))
		}
		h := &recorder{before: func(ctx context.Context, e *observer.Event) error {
			if e.ID == "0" {
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		cfg := config(log, h, store)
		cfg.InFlight, cfg.Lanes, cfg.DrainTimeout = 10, 200, time.Second
		stop := start(t, cfg)
		<-time.After(time.Minute)
		if got := len(h.all()); got < 4 || got > 9 { // a few may share its lane
			t.Errorf("%d events were handled beyond the oldest unhandled one, want 9 at most and most of them", got)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if cp := checkpoint(t, store, "log"); cp.Position != "" || len(cp.Done) > 9 {
			t.Errorf("checkpoint %q with %d done", cp.Position, len(cp.Done))
		}
	})
}

func TestInvariant7DrainFinishesWhatBeganAndStartsNothing(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		for i := range 10 {
			log.Append(event(strconv.Itoa(i), "same"))
		}
		h := &recorder{before: func(context.Context, *observer.Event) error {
			<-time.After(time.Second)
			return nil
		}}
		stop := start(t, config(log, h, store))
		<-time.After(2500 * time.Millisecond)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"0", "1", "2"}, h.all()); d != "" {
			t.Errorf("first life (-want +got):\n%s", d)
		}
		stop = start(t, config(log, h, store))
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, h.all()); d != "" {
			t.Errorf("both lives (-want +got):\n%s", d)
		}
	})
}

func TestDrainTimeoutCancelsHandlers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		log.Append(event("stuck", "x"))
		h := &recorder{before: func(ctx context.Context, _ *observer.Event) error { <-ctx.Done(); return ctx.Err() }}
		cfg := config(log, h, store)
		cfg.DrainTimeout = 5 * time.Second
		stop := start(t, cfg)
		synctest.Wait()
		began := time.Now()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took != 5*time.Second {
			t.Errorf("the drain took %s, want 5s", took)
		}
		if cp := checkpoint(t, store, "log"); cp.Position != "" {
			t.Errorf("the checkpoint passed an event that was cancelled: %q", cp.Position)
		}
	})
}

// awayStore is a checkpoint store that fails until it is told to work.
type awayStore struct {
	*memorystore.Store
	mu   sync.Mutex
	back bool
}

func (s *awayStore) comeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.back = true
}

func (s *awayStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.back {
		return nil
	}
	return errors.New("no space left on device")
}

func (s *awayStore) LoadCheckpoint(ctx context.Context, name string) (observer.Checkpoint, error) {
	if err := s.err(); err != nil {
		return observer.Checkpoint{}, err
	}
	return s.Store.LoadCheckpoint(ctx, name)
}

func (s *awayStore) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.Store.SaveCheckpoint(ctx, name, cp)
}

func TestWaitsForACheckpointStoreThatIsAway(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &awayStore{Store: memorystore.New(memorystore.Config{})}
		h := &recorder{}
		log.Append(event("a", "x"))
		stop := start(t, config(log, h, store))
		<-time.After(time.Minute)
		if got := h.all(); len(got) != 0 {
			t.Errorf("handled %v before it was known what had been handled", got)
		}
		store.comeBack()
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a"}, h.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestFailedLastSaveIsReported(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &awayStore{Store: memorystore.New(memorystore.Config{}), back: true}
		stop := start(t, config(log, &recorder{}, store))
		synctest.Wait()
		store.mu.Lock()
		store.back = false
		store.mu.Unlock()
		if err := stop(); err == nil {
			t.Error("the last checkpoint was not saved and nobody was told")
		}
	})
}

func TestMalformedEntriesAreHandedOverAndPassed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		log.AppendMalformed([]byte(`{"id":null}`), "id is NULL")
		log.Append(event("next", "x"))
		h := &recorder{}
		cfg := config(log, h, store)
		var reasons []string
		cfg.Malformed = func(_ context.Context, m *observer.Malformed) error {
			reasons = append(reasons, m.Reason)
			return nil
		}
		stop := start(t, cfg)
		synctest.Wait()
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"id is NULL"}, reasons); d != "" {
			t.Error(d)
		}
		if d := cmp.Diff([]string{"next"}, h.all()); d != "" {
			t.Error(d)
		}
	})
}

func TestMissingFieldsAreAnError(t *testing.T) {
	t.Parallel()
	if err := relay.New(relay.Config{}).Run(t.Context()); err == nil {
		t.Error("a relay without a source ran")
	}
}

// A store that fails for a moment at the end must not make the next start
// repeat what was handled.
func TestInvariant7LastSaveIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &awayStore{Store: memorystore.New(memorystore.Config{}), back: true}
		h := &recorder{before: func(context.Context, *observer.Event) error {
			<-time.After(time.Second)
			return nil
		}}
		log.Append(event("a", "x"))
		stop := start(t, config(log, h, store))
		synctest.Wait()
		store.mu.Lock()
		store.back = false
		store.mu.Unlock()
		time.AfterFunc(4*time.Second, store.comeBack)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		stop = start(t, config(log, h, store))
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a"}, h.all()); d != "" {
			t.Errorf("both lives (-want +got):\n%s", d)
		}
	})
}

// What waits in the lanes is bounded by InFlight, not by lanes times InFlight:
// both may be large.
func TestManyLanesAndALargeWindowAreCheap(t *testing.T) {
	t.Parallel()
	log, store := memory.New("log"), memorystore.New(memorystore.Config{})
	log.Append(event("a", "x"))
	handled := make(chan struct{})
	cfg := config(log, observer.HandlerFunc(func(context.Context, *observer.Event) error {
		close(handled)
		return nil
	}), store)
	cfg.Lanes, cfg.InFlight = 1000, 1_000_000
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	stop := start(t, cfg)
	<-handled
	runtime.ReadMemStats(&after)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 1<<30 {
		t.Errorf("one event took %d MiB", grown>>20)
	}
}
