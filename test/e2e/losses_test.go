//go:build unix

package e2e

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
)

// loss is a way in which a stream loses what workers have not handled yet.
type loss struct {
	// before is done after the first part is handled, take after the last part is
	// published, while no worker runs.
	before, take func(*losing)
	taken        int // how many events of the last part are lost
}

// losing is a fleet whose stream loses something.
type losing struct {
	*fleet

	server *testenv.NATSServer
	store  string // a copy of what the server stored
}

const (
	// handledFirst, handledLater and unhandled are how many changes the workers have
	// handled before the copy is made, after that, and not at all.
	handledFirst = 20
	handledLater = 15
	unhandled    = 30
)

// TestStreamLosesEvents takes events away that nobody has handled. They are
// published again, as many as were taken; what was handled is not repeated.
func TestStreamLosesEvents(t *testing.T) {
	t.Parallel()
	long(t)
	stream := func(l *losing, do func(jetstream.Stream) error) {
		l.t.Helper()
		if err := do(l.jetStreamOf(l.jetStream())); err != nil {
			l.t.Fatal(err)
		}
	}
	const kept = 12
	for name, one := range map[string]loss{
		"put back to an older copy": {
			before: func(l *losing) { l.store = l.server.CopyStore(l.t) },
			take:   func(l *losing) { l.server.RestoreStore(l.t, l.store) },
			taken:  unhandled,
		},
		"deleted": {
			take: func(l *losing) {
				if err := l.jetStream().DeleteStream(l.t.Context(), streamName); err != nil {
					l.t.Fatal(err)
				}
			},
			taken: unhandled,
		},
		"purged": {
			take: func(l *losing) {
				stream(l, func(s jetstream.Stream) error { return s.Purge(l.t.Context()) })
			},
			taken: unhandled,
		},
		"purged in part": {
			take: func(l *losing) {
				stream(l, func(s jetstream.Stream) error { return s.Purge(l.t.Context(), jetstream.WithPurgeKeep(kept)) })
			},
			taken: unhandled - kept,
		},
		"single messages deleted": {
			take: func(l *losing) {
				stream(l, func(s jetstream.Stream) error {
					for n := range uint64(kept) {
						if err := s.DeleteMsg(l.t.Context(), s.CachedInfo().State.LastSeq-2*n); err != nil {
							return err
						}
					}
					return nil
				})
			},
			taken: kept,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one.happens(t)
		})
	}
}

func (one loss) happens(t *testing.T) {
	t.Helper()
	recv := newReceiver(t, ok)
	l := &losing{server: testenv.PrivateNATS(t, testenv.NATSOptions{})}
	l.fleet = newFleet(t, l.server.URL(), recv, webhook("all", recv.url(), "", ""))
	l.databases(onPostgres)
	l.crew(1, 2)
	l.start()
	shop, item := l.bases[0], int64(0)
	// What comes again comes after later events of its entity, so each event has an
	// entity of its own.
	put := func(n int) {
		for range n {
			item++
			shop.put(item)
		}
	}
	put(handledFirst)
	l.arrived()
	if one.before != nil {
		one.before(l)
	}
	put(handledLater)
	l.arrived()
	for _, w := range l.workers {
		w.stop() // in order: what is handled is in the checkpoints
	}
	put(unhandled)
	slowly(t, "the bridge has published all", func() bool { return l.bridges[0].behindOf(shop) == 0 })
	one.take(l)
	for _, w := range l.workers {
		w.start()
	}
	// That it is over is said with an event that comes after all that is lost.
	slowly(t, "the loss is over", func() bool {
		put(1)
		return l.reconciled() >= one.taken
	})
	l.arrived()
	l.stop()
	l.check()
	l.leftNothing()
	if n := l.reconciled(); n != one.taken {
		t.Errorf("%d events were published again, want %d", n, one.taken)
	}
}

// reconciled is how many events the bridges say they published again, of losses
// that are over.
func (f *fleet) reconciled() (n int) {
	f.t.Helper()
	line := regexp.MustCompile(`msg="what the stream lost is handled".* events=(\d+)`)
	for _, b := range f.bridges {
		for _, found := range line.FindAllStringSubmatch(b.log(), -1) {
			events, err := strconv.Atoi(found[1])
			if err != nil {
				f.t.Fatal(fmt.Errorf("events of %q: %w", found[0], err))
			}
			n += events
		}
	}
	return n
}
