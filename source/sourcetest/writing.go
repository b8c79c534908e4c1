package sourcetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func testRollback(t *testing.T, l *log) {
	if err := l.Append(t.Context(), false, event("gone", 1), event("gone", 2)); err != nil {
		t.Fatal(err)
	}
	l.append(t, event("e", 1))
	if err := l.Append(t.Context(), false, event("gone", 3)); err != nil {
		t.Fatal(err)
	}
	s := l.open(t, "")
	if got := take(t, s, 1)[0].ID(); got != event("e", 1).ID {
		t.Errorf("got %s, want the only committed event", got)
	}
	wantNothing(t, s)
}

// testConcurrent writes from several goroutines while reading, reopening at
// random, and compares what was committed with what came.
func testConcurrent(t *testing.T, l *log) {
	const writers, transactions = 4, 40
	committed := make([][]string, writers)
	var wg sync.WaitGroup
	errs := make(chan error, writers)
	for w := range writers {
		wg.Go(func() {
			var err error
			committed[w], err = l.write(t, w, transactions)
			errs <- err
		})
	}
	done := make(chan struct{})
	go func() {
		wg.Wait()
		close(done)
	}()
	got := l.follow(t, done)
	for range writers {
		if err := <-errs; err != nil {
			t.Fatalf("append: %v", err)
		}
	}
	for w := range writers {
		if diff := cmp.Diff(committed[w], got[writerName(w)]); diff != "" {
			t.Errorf("events of entity %s (-committed +read):\n%s", writerName(w), diff)
		}
	}
}

// follow reads until what marks the end comes, which is appended after done.
// It returns ids by entity, in the order they came.
func (l *log) follow(t *testing.T, done <-chan struct{}) map[string][]string {
	t.Helper()
	rnd := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // reproducible on purpose
	appended := make(chan error, 1)
	go func() {
		<-done
		appended <- l.Append(t.Context(), true, event("end", 1))
	}()
	got := map[string][]string{}
	s := l.open(t, "")
	for {
		m := take(t, s, 1)[0]
		if m.Event.EntityID == "end" {
			if err := <-appended; err != nil {
				t.Fatalf("append: %v", err)
			}
			return got
		}
		got[m.Event.EntityID] = append(got[m.Event.EntityID], m.ID())
		if rnd.IntN(20) == 0 {
			if err := s.Close(t.Context()); err != nil {
				t.Fatalf("close: %v", err)
			}
			s = l.open(t, m.Position)
		}
	}
}

func writerName(w int) string { return fmt.Sprintf("w%d", w) }

// write makes transactions of one writer and returns the ids it committed.
func (l *log) write(t *testing.T, w, transactions int) ([]string, error) {
	t.Helper()
	rnd := rand.New(rand.NewPCG(uint64(w), 7)) //nolint:gosec // reproducible on purpose
	var committed []string
	n := 0
	for range transactions {
		var events []*observer.Event
		for range 1 + rnd.IntN(5) {
			n++
			events = append(events, event(writerName(w), n))
		}
		commit := rnd.IntN(3) > 0
		if err := l.Append(t.Context(), commit, events...); err != nil {
			return nil, err
		}
		for _, e := range events {
			if commit {
				committed = append(committed, e.ID)
			}
		}
	}
	return committed, nil
}

func testMalformed(t *testing.T, l *log) {
	l.append(t, event("e", 1))
	for range 2 {
		if err := l.AppendMalformed(t.Context()); err != nil {
			t.Fatalf("append: %v", err)
		}
	}
	l.append(t, event("e", 2))
	all := take(t, l.open(t, ""), 4)
	if all[0].Event == nil || all[3].Event == nil {
		t.Fatalf("good events around malformed entries did not come: %+v", all)
	}
	seen := map[string]bool{}
	for _, m := range all[1:3] {
		if m.Malformed == nil {
			t.Fatalf("entry %s was taken for an event", m.ID())
		}
		if !json.Valid(m.Malformed.Raw) || m.Malformed.Reason == "" {
			t.Errorf("malformed entry has raw %q and reason %q", m.Malformed.Raw, m.Malformed.Reason)
		}
		if m.Malformed.Source != l.Source().Name() || m.Malformed.Position == "" {
			t.Errorf("malformed entry says source %q, position %q", m.Malformed.Source, m.Malformed.Position)
		}
		if seen[m.ID()] {
			t.Errorf("two malformed entries share the id %s", m.ID())
		}
		seen[m.ID()] = true
	}
	again := take(t, l.open(t, all[0].Position), 3)
	if diff := cmp.Diff(ids(all[1:]), ids(again)); diff != "" {
		t.Errorf("ids after reopening (-first +second):\n%s", diff)
	}
}

func testRefetch(t *testing.T, l *log) {
	r, ok := l.Source().(observer.Refetcher)
	if !ok {
		t.Skip("the source does not re-read entries")
	}
	l.fill(t, 2)
	if err := l.AppendMalformed(t.Context()); err != nil {
		t.Fatalf("append: %v", err)
	}
	l.append(t, event("e", 9))
	all := take(t, l.open(t, ""), 4)
	bad := all[2].Malformed
	if bad == nil {
		t.Fatalf("the malformed entry was taken for an event: %+v", all[2])
	}
	got, err := r.Refetch(t.Context(), bad.Position)
	if err != nil {
		t.Fatalf("refetch: %v", err)
	}
	if got.Malformed == nil || got.ID() != bad.ID || got.Malformed.Reason != bad.Reason {
		t.Errorf("refetch gave %+v, want what was read", got.Malformed)
	}
	if l.Prune == nil {
		return
	}
	if err := l.Prune(t.Context(), all[3].Position); err != nil {
		t.Fatalf("prune: %v", err)
	}
	if _, err := r.Refetch(t.Context(), bad.Position); !errors.Is(err, observer.ErrNotFound) {
		t.Errorf("refetch of a pruned entry: %v, want one that matches ErrNotFound", err)
	}
}

func testPrune(t *testing.T, l *log) {
	if l.Prune == nil {
		t.Skip("the log is not pruned by its source")
	}
	l.fill(t, 20)
	s := l.open(t, "")
	read := take(t, s, 10)
	if err := l.Prune(t.Context(), read[4].Position); err != nil {
		t.Fatalf("prune: %v", err)
	}
	l.append(t, event("e", 20))
	rest := take(t, s, 11)
	if first, last := rest[0].ID(), rest[10].ID(); first != event("e", 10).ID || last != event("e", 20).ID {
		t.Errorf("after pruning the open stream went on from %s to %s", first, last)
	}
	reopened := take(t, l.open(t, read[4].Position), 16)
	if diff := cmp.Diff(ids(append(read[5:], rest...)), ids(reopened)); diff != "" {
		t.Errorf("reopened at the pruned position (-want +got):\n%s", diff)
	}
	if err := l.Prune(t.Context(), rest[10].Position); err != nil {
		t.Fatalf("prune: %v", err)
	}
	s = l.open(t, rest[10].Position)
	l.append(t, event("e", 21))
	if got := take(t, s, 1)[0].ID(); got != event("e", 21).ID {
		t.Errorf("after pruning everything came %s, want only what is new", got)
	}
}
