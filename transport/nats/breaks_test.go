package nats_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/transport/nats"
)

func TestStreamRecreated(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	seen := &breaks{}
	source := b.source(t, seen.into)
	b.fill(t, 1, 5)
	s := open(t, source, "")
	last := read(t, s, 5)[4].Position

	b.delete(t)
	_ = wantFailure(t, s)
	if _, err := source.Open(t.Context(), last); err == nil || !strings.Contains(err.Error(), "is not there") {
		t.Errorf("opening a stream that is gone: %v", err)
	}
	b.create(t)
	b.fill(t, 4, 9)
	s = open(t, source, last)
	got := read(t, s, 6)
	if diff := cmp.Diff(names(4, 9), idsOf(got)); diff != "" {
		t.Errorf("the new stream is to be read from its beginning (-want +got):\n%s", diff)
	}
	wantSilence(t, s)
	seen.want(t, nats.Recreated)
	// The position of the new stream is one like any other.
	b.fill(t, 10, 10)
	if got := read(t, open(t, source, got[5].Position), 1)[0].ID(); got != name(10) {
		t.Errorf("after the new position came %s", got)
	}
	seen.want(t, nats.Recreated)
}

// TestStreamRolledBack puts a server back to an older copy of its store, with
// what was read since, and publishes some more before it is read again: fewer
// messages than were lost, or more.
func TestStreamRolledBack(t *testing.T) {
	t.Parallel()
	for title, more := range map[string]int{"nothing new": 0, "shorter": 3, "as long": 5, "longer": 9} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateNATS(t, testenv.NATSOptions{})
			b := newBench(t, server.URL(), 1)
			seen := &breaks{}
			source := b.source(t, seen.into)
			b.fill(t, 1, 5)
			old := server.CopyStore(t)
			b.fill(t, 6, 10)
			s := open(t, source, "")
			last := read(t, s, 10)[9].Position

			server.Kill(t)
			_ = wantFailure(t, s)
			server.RestoreStore(t, old)
			b.connected(t)
			b.fill(t, 101, 100+more)
			s = open(t, source, last)
			got := read(t, s, more)
			if diff := cmp.Diff(names(101, 100+more), idsOf(got)); diff != "" {
				t.Errorf("what was published after the copy was put back (-want +got):\n%s", diff)
			}
			wantSilence(t, s)
			seen.want(t, nats.RolledBack)
			if more > 0 {
				wantSilence(t, open(t, source, got[more-1].Position))
				seen.want(t, nats.RolledBack)
			}
		})
	}
}

func TestPurge(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	seen := &breaks{}
	source := b.source(t, seen.into)
	b.fill(t, 1, 10)
	positions := read(t, open(t, source, ""), 10)

	b.purge(t, 5)
	read(t, open(t, source, positions[4].Position), 5)
	read(t, open(t, source, positions[7].Position), 2)
	seen.want(t) // what was handled is gone, nothing else

	if got := read(t, open(t, source, positions[2].Position), 5)[0].ID(); got != name(6) {
		t.Errorf("reading goes on with %s", got)
	}
	seen.want(t, nats.Removed)
}

func TestPurgeOfEverything(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	seen := &breaks{}
	source := b.source(t, seen.into)
	b.fill(t, 1, 10)
	positions := read(t, open(t, source, ""), 10)
	b.purge(t, 10)
	wantSilence(t, open(t, source, positions[9].Position))
	seen.want(t)
	s := open(t, source, positions[8].Position)
	b.fill(t, 11, 11)
	if got := read(t, s, 1)[0].ID(); got != name(11) {
		t.Errorf("reading goes on with %s", got)
	}
	seen.want(t, nats.Removed)
}

// TestPurgeUnderAReader removes what a reader that is open has not asked for yet.
func TestPurgeUnderAReader(t *testing.T) {
	t.Parallel()
	for title, more := range map[string]int{"with messages behind": 3, "of everything": 0} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			b := newBench(t, testenv.NATS(t), 1)
			seen := &breaks{}
			b.fill(t, 1, 30)
			s := open(t, b.source(t, seen.into, func(c *nats.SourceConfig) { c.BatchSize = 2 }), "")
			read(t, s, 1)
			b.purge(t, 30)
			b.fill(t, 31, 30+more)
			var got []string
			for len(seen.list()) == 0 || more > 0 && !slices.Contains(got, name(30+more)) {
				m, err := tryRead(t, s)
				if err != nil {
					break
				}
				got = append(got, m.ID())
			}
			if len(got) > 8 {
				t.Errorf("%d messages came of those that were purged; the test is of none", len(got))
			}
			seen.want(t, nats.Removed)
		})
	}
}

// TestMessageDeleted deletes the message at the position, so that it cannot be
// compared any more.
func TestMessageDeleted(t *testing.T) {
	t.Parallel()
	b := newBench(t, testenv.NATS(t), 1)
	seen := &breaks{}
	source := b.source(t, seen.into)
	b.fill(t, 1, 5)
	at := read(t, open(t, source, ""), 3)[2].Position
	if err := b.stream(t).DeleteMsg(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(names(4, 5), idsOf(read(t, open(t, source, at), 2))); diff != "" {
		t.Error(diff)
	}
	seen.want(t, nats.Removed)
}

// breaks keeps what a source reported.
type breaks struct {
	mu   sync.Mutex
	seen []nats.Break
}

func (b *breaks) into(c *nats.SourceConfig) {
	c.Broken = func(_ string, what nats.Break) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.seen = append(b.seen, what)
	}
}

func (b *breaks) list() (kinds []nats.BreakKind) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, s := range b.seen {
		kinds = append(kinds, s.Kind)
	}
	return kinds
}

func (b *breaks) want(t *testing.T, kinds ...nats.BreakKind) {
	t.Helper()
	if diff := cmp.Diff(kinds, b.list()); diff != "" {
		t.Errorf("reported breaks (-want +got):\n%s\n%+v", diff, b.seen)
	}
}

// purge removes every message up to one.
func (b *bench) purge(t *testing.T, upTo uint64) {
	t.Helper()
	if err := b.stream(t).Purge(t.Context(), jetstream.WithPurgeSequence(upTo+1)); err != nil {
		t.Fatal(err)
	}
}

// tryRead reads a message if one comes soon.
func tryRead(t *testing.T, s observer.Stream) (observer.Message, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	return s.Next(ctx)
}
