// Package sourcetest is the conformance suite of [observer.Source]. Every
// adapter passes it against the real thing it reads.
package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// Harness is one empty log of an adapter, made for one test.
type Harness struct {
	// Source gives a new source value over the log, as a process would make
	// that was started again.
	Source func() observer.Source
	// Append writes events in one transaction, in this order, and commits it or
	// rolls it back. It is called from several goroutines. The log must keep
	// id, operation, entity type, entity id, data, before-image and timestamp;
	// of JSON its value, with every digit.
	Append func(ctx context.Context, commit bool, events ...*observer.Event) error
	// AppendMalformed writes and commits one entry that is not an event.
	AppendMalformed func(ctx context.Context) error
	// Prune drops entries at or before a position; it may keep some. nil where
	// the log has no such thing.
	Prune func(ctx context.Context, upTo observer.Position) error
	// BatchSize is how many entries the source reads at once; the suite writes
	// several times as many.
	BatchSize int
}

// Run checks an adapter. newHarness is called once for each test, which run in
// parallel.
func Run(t *testing.T, newHarness func(t *testing.T) Harness) {
	t.Helper()
	tests := []struct {
		name string
		run  func(*testing.T, *log)
	}{
		{"OrderAndContent", testContent},
		{"ResumeAfterEveryPosition", testResume},
		{"MoreThanOneBatch", testBatches},
		{"EmptyLogBlocks", testEmpty},
		{"AppendWakesNext", testWake},
		{"NextHonoursContext", testContext},
		{"CloseIsIdempotent", testClose},
		{"RolledBackIsNotSeen", testRollback},
		{"ConcurrentAppenders", testConcurrent},
		{"MalformedGoesOn", testMalformed},
		{"Refetch", testRefetch},
		{"PruneDoesNotDisturb", testPrune},
		{"UnreadablePosition", testBadPosition},
		{"NameIsStable", testName},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, &log{Harness: newHarness(t)})
		})
	}
}

// patience bounds a wait for what must come; it is not a measure of speed.
const patience = 30 * time.Second

// log is a harness with what the tests do with it.
type log struct{ Harness }

// event makes an UPDATE of one entity. Two of them have the same n only when
// they have the same entity.
func event(entity string, n int) *observer.Event {
	return &observer.Event{
		ID: id(entity, n), Operation: observer.Update, EntityType: "Order", EntityID: entity,
		Data:      fmt.Appendf(nil, `{"n":%d}`, n),
		Before:    fmt.Appendf(nil, `{"n":%d}`, n-1),
		Timestamp: time.Date(2026, 1, 2, 3, 4, 5, 678e6, time.UTC),
	}
}

// id makes a UUID, which is what some logs can hold.
func id(entity string, n int) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(entity))
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", h.Sum32(), n)
}

func (l *log) append(t *testing.T, events ...*observer.Event) {
	t.Helper()
	if err := l.Append(t.Context(), true, events...); err != nil {
		t.Fatalf("append: %v", err)
	}
}

// fill commits n events of one entity, several in each transaction.
func (l *log) fill(t *testing.T, n int) {
	t.Helper()
	const together = 50
	for from := 0; from < n; from += together {
		var events []*observer.Event
		for i := from; i < min(from+together, n); i++ {
			events = append(events, event("e", i))
		}
		l.append(t, events...)
	}
}

// open opens a stream on a new source value and closes it with the test.
func (l *log) open(t *testing.T, after observer.Position) observer.Stream {
	t.Helper()
	s, err := l.Source().Open(t.Context(), after)
	if err != nil {
		t.Fatalf("open after %q: %v", after, err)
	}
	t.Cleanup(func() {
		if err := s.Close(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// take reads n messages.
func take(t *testing.T, s observer.Stream, n int) []observer.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var list []observer.Message
	for range n {
		m, err := s.Next(ctx)
		if err != nil {
			t.Fatalf("message %d of %d: %v", len(list)+1, n, err)
		}
		if (m.Event == nil) == (m.Malformed == nil) {
			t.Fatalf("message %d has both or neither of an event and a malformed entry: %+v", len(list)+1, m)
		}
		if m.Position == "" || m.ID() == "" {
			t.Fatalf("message %d lacks its position or its id: %+v", len(list)+1, m)
		}
		list = append(list, m)
	}
	return list
}

// wantNothing fails when the stream has another message. It ends the stream.
func wantNothing(t *testing.T, s observer.Stream) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	m, err := s.Next(ctx)
	if err == nil {
		t.Fatalf("a message too many: %s at %s", m.ID(), m.Position)
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Next on an exhausted log: %v, want the context's error", err)
	}
}

func ids(messages []observer.Message) []string {
	list := make([]string, len(messages))
	for i := range messages {
		list[i] = messages[i].ID()
	}
	return list
}
