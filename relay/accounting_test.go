package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/memory"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// An idle relay takes up what comes, again and again.
func TestEventsReachAnIdleLane(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store, h := memory.New("log"), memorystore.New(memorystore.Config{}), &recorder{}
		stop := start(t, config(log, h, store))
		var want []string
		for i := range 20 {
			synctest.Wait() // every lane waits
			for j := range i%3 + 1 {
				id := fmt.Sprintf("%d/%d", i, j)
				log.Append(event(id, "same"))
				want = append(want, id)
			}
		}
		synctest.Wait()
		if d := cmp.Diff(want, h.all()); d != "" {
			t.Errorf("handled (-want +got):\n%s", d)
		}
		if err := stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// fickleSource fails without a message several times before each one, so that
// every place that an error does not give back is missed.
type fickleSource struct {
	*memory.Log
	opens int
}

func (s *fickleSource) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	stream, err := s.Log.Open(ctx, after)
	left := 0
	if s.opens++; s.opens%4 == 0 {
		left = 3
	}
	return &brokenStream{Stream: stream, left: left}, err
}

// Reading again what is in the window, failing streams, and a restart with a
// smaller window than the checkpoint remembers: none of them uses places up.
func TestSmallWindowIsNotUsedUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), memorystore.New(memorystore.Config{})
		var want []string
		for i := range 60 {
			log.Append(event(fmt.Sprintf("e%02d", i), strconv.Itoa(i%7)))
			want = append(want, fmt.Sprintf("e%02d", i))
		}
		h := &recorder{before: func(ctx context.Context, e *observer.Event) error {
			if e.ID == "e00" { // keeps the first life from settling anything
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}
		cfg := config(log, h, store)
		cfg.Lanes, cfg.InFlight, cfg.DrainTimeout = 100, 40, time.Second
		stop := start(t, cfg)
		<-time.After(time.Minute)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		if n := len(checkpoint(t, store, "log").Done); n < 20 {
			t.Fatalf("the checkpoint remembers %d, too few for this test", n)
		}
		h.before = nil
		cfg.Source, cfg.InFlight = &fickleSource{Log: log}, 3
		stop = start(t, cfg)
		<-time.After(time.Hour)
		if err := stop(); err != nil {
			t.Fatal(err)
		}
		got := h.all()
		slices.Sort(got)
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("handled in both lives (-want +got):\n%s", d)
		}
		if cp := checkpoint(t, store, "log"); len(cp.Done) != 0 {
			t.Errorf("everything is settled and the checkpoint remembers %v", cp.Done)
		}
	})
}

// A handler that waits for something else than the relay's end is ended by the
// drain timeout, also while the source is being opened and the store is away.
func TestStopsWhileEverythingIsBroken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, store := memory.New("log"), &awayStore{Store: memorystore.New(memorystore.Config{}), back: true}
		log.Append(event("a", "x"), event("b", "y"))
		h := &recorder{before: func(ctx context.Context, e *observer.Event) error {
			if e.ID == "a" {
				<-ctx.Done()
				return ctx.Err()
			}
			return errors.New("cannot be recorded")
		}}
		cfg := config(&fickleSource{Log: log, opens: 3}, h, store)
		cfg.DrainTimeout = 5 * time.Second
		stop := start(t, cfg)
		<-time.After(time.Minute)
		store.mu.Lock()
		store.back = false
		store.mu.Unlock()
		began := time.Now()
		if err := stop(); err == nil {
			t.Error("the checkpoint was not saved and nobody was told")
		}
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("it took %s to stop", took)
		}
	})
}
