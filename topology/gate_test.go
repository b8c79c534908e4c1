package topology

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/memory"
)

// remembered is a log in memory as far as a gate looks at it.
type remembered struct {
	Source

	log *memory.Log
}

func (r remembered) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	return r.log.Open(ctx, after)
}

func event(n int) *observer.Event {
	return &observer.Event{ID: strconv.Itoa(n), Operation: observer.Insert, EntityType: "Order", EntityID: "1", Timestamp: time.Now()}
}

func TestGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		log, gate := memory.New("log"), newGate()
		source := gated{remembered{log: log}, gate}
		open := func() observer.Stream {
			t.Helper()
			s, err := source.Open(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
		log.Append(event(1))
		s := open()
		if msg, err := s.Next(t.Context()); err != nil || msg.ID() != "1" {
			t.Fatalf("first: %v, %v", msg.ID(), err)
		}
		// A reader that waits is told at once, and what comes then is not given out.
		told := make(chan error, 1)
		go func() { _, err := s.Next(t.Context()); told <- err }()
		synctest.Wait()
		gate.Shut()
		gate.Shut() // as often as one likes
		if err := <-told; !errors.Is(err, errShut) {
			t.Errorf("the waiting reader got %v", err)
		}
		log.Append(event(2))
		if _, err := s.Next(t.Context()); !errors.Is(err, errShut) {
			t.Errorf("a stream of before got %v", err)
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Nobody begins to read before it opens; waiting ends with the context.
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if _, err := source.Open(ctx, ""); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("at a gate that is shut: %v", err)
		}
		begun := make(chan observer.Stream, 1)
		go func() { begun <- open() }()
		synctest.Wait()
		if len(begun) > 0 {
			t.Fatal("a stream began at a gate that is shut")
		}
		gate.Open()
		gate.Open()
		s = <-begun
		for _, want := range []string{"1", "2"} {
			if msg, err := s.Next(t.Context()); err != nil || msg.ID() != want {
				t.Errorf("after it opened: %v, %v; want %s", msg.ID(), err, want)
			}
		}
		if err := s.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}
