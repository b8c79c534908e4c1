package memory_test

import (
	"context"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/memory"
	"github.com/fraiseql/observer/source/sourcetest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	sourcetest.Run(t, func(*testing.T) sourcetest.Harness {
		l := memory.New("mem")
		return sourcetest.Harness{
			Source: func() observer.Source { return l },
			Append: func(_ context.Context, commit bool, events ...*observer.Event) error {
				if commit {
					l.Append(events...)
				}
				return nil
			},
			AppendMalformed: func(context.Context) error {
				l.AppendMalformed([]byte(`{"id":null}`), "id is NULL")
				return nil
			},
			Prune: func(_ context.Context, upTo observer.Position) error {
				_, err := l.Prune(upTo)
				return err
			},
			BatchSize: 1,
		}
	})
}

func event(id string) *observer.Event {
	return &observer.Event{ID: id, Operation: observer.Insert, EntityType: "T", EntityID: id}
}

// A checkpoint can outlive the process, and this log cannot: what a new log
// holds must not be taken for handled.
func TestPositionOfAnEarlierProcess(t *testing.T) {
	t.Parallel()
	old := memory.New("mem")
	old.Append(event("1"), event("2"))
	s, err := old.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := s.Next(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	fresh := memory.New("mem")
	fresh.Append(event("3"))
	s, err = fresh.Open(t.Context(), m.Position)
	if err != nil {
		t.Fatal(err)
	}
	if m, err = s.Next(t.Context()); err != nil || m.ID() != "3" {
		t.Errorf("got %v, %v; want event 3", m, err)
	}
}

func TestPruneBoundsTheLog(t *testing.T) {
	t.Parallel()
	l := memory.New("mem")
	s, err := l.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	for range 1000 {
		l.Append(event("e"))
		m, err := s.Next(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if n, err := l.Prune(m.Position); err != nil || n != 1 {
			t.Fatalf("prune dropped %d, %v; want 1", n, err)
		}
	}
	if l.Len() != 0 {
		t.Errorf("%d entries left", l.Len())
	}
}
