package topology

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/reconcile"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/source/sqlite"
	memorystore "github.com/fraiseql/observer/store/memory"
)

// gated is a publisher that takes an event for each that it is allowed.
type gated struct{ allowed chan struct{} }

func (g gated) Handle(ctx context.Context, _ *observer.Event) error {
	select {
	case <-g.allowed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gated) allow(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case g.allowed <- struct{}{}:
		case <-time.After(time.Minute):
			t.Fatal("nothing to handle within a minute")
		}
	}
}

// stalling cannot read the checkpoint of the bridge until it may.
type stalling struct {
	*memorystore.Store

	may chan struct{}
}

func (s stalling) LoadCheckpoint(ctx context.Context, name string) (observer.Checkpoint, error) {
	select {
	case <-s.may:
	default:
		if name == "shop" {
			return observer.Checkpoint{}, errors.New("nobody answers")
		}
	}
	return s.Store.LoadCheckpoint(ctx, name)
}

// sides is a log of changes, a bridge that publishes what it may, and a verifier.
type sides struct {
	*bridge

	t     *testing.T
	log   *sql.DB
	store stalling
	gate  gated
}

func newSides(t *testing.T) *sides {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shop.db")
	db, err := sql.Open("sqlite", path+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	logger := slog.New(slog.DiscardHandler)
	s := &sides{t: t, log: db, store: stalling{memorystore.New(memorystore.Config{}), make(chan struct{})}, gate: gated{make(chan struct{})}}
	s.exec(`CREATE TABLE orders (id INTEGER PRIMARY KEY)`)
	if _, err := sqlite.AddCapture(t.Context(), path, sqlite.Capture{Table: "orders", Entity: "Order"}); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Parse("observer.toml", []byte("[[databases]]\nname = \"shop\"\nurl = 'sqlite:"+path+"'\npoll_interval = \"10ms\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	s.bridge = &bridge{db: Database{Source: NewSource(cfg.Databases[0], nil, logger), checkpoint: "shop"}}
	s.relay = relay.New(relay.Config{
		Source: s.bridged(), Handler: s.gate, Malformed: keepNothing, Checkpoints: s.store, Lanes: 1, Logger: logger, DrainTimeout: time.Millisecond,
	})
	return s
}

func keepNothing(context.Context, *observer.Malformed) error { return nil }

func (s *sides) exec(query string, args ...any) {
	s.t.Helper()
	if _, err := s.log.ExecContext(s.t.Context(), query, args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *sides) insert(from, to int) {
	s.t.Helper()
	for id := from; id <= to; id++ {
		s.exec(`INSERT INTO orders VALUES (?)`, id)
	}
}

// events reads the first n events.
func (s *sides) events(n int) (events []*observer.Event) {
	s.t.Helper()
	stream, err := s.db.Source.Open(s.t.Context(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = stream.Close(s.t.Context()) }()
	for range n {
		msg, err := stream.Next(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		events = append(events, msg.Event)
	}
	return events
}

// start runs both sides until the test ends, the verifier with its handler, which
// it may read three events ahead of.
func (s *sides) start(handler observer.Handler) {
	s.t.Helper()
	s.startFrom(s.db.Source, handler)
}

// startFrom is the same with a source of the verifier.
func (s *sides) startFrom(verified observer.Source, handler observer.Handler) {
	s.t.Helper()
	s.verifier = relay.New(relay.Config{
		Source: renamed{verified, "reconcile/shop"}, Handler: handler, Malformed: keepNothing, Checkpoints: s.store, Lanes: 1, InFlight: 3,
		Logger: slog.New(slog.DiscardHandler), DrainTimeout: time.Millisecond,
	})
	ctx, cancel := context.WithCancel(s.t.Context())
	var running sync.WaitGroup
	for _, r := range []*relay.Relay{s.relay, s.verifier} {
		running.Go(func() { _ = r.Run(ctx) })
	}
	s.t.Cleanup(func() { cancel(); running.Wait() })
}

// asks asks at once, whatever was asked a moment ago.
func (s *sides) asks() bool {
	s.asked = time.Time{}
	return s.published(s.t.Context())
}

// awaits waits until something holds.
func (s *sides) awaits(what string, holds func() bool) {
	s.t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); !holds(); <-tick.C {
		if time.Now().After(deadline) {
			s.t.Fatal("not within a minute: " + what)
		}
	}
}

// unread waits until that many changes come behind what the verifier has read.
func (s *sides) unread(n int64) {
	s.t.Helper()
	s.awaits("the verifier has read on", func() bool {
		read, known := s.verifier.Read()
		rest, _, err := s.db.Source.Backlog(s.t.Context(), read)
		return known && err == nil && rest == n
	})
}

// Whether the bridge is far enough is told by its place in the log: it is not while
// it has not begun, nor while something is unpublished that the verifier has read,
// and it is when it has passed that, whatever comes behind.
func TestTheBridgeIsComparedByItsPlaceInTheLog(t *testing.T) {
	t.Parallel()
	s, verifying := newSides(t), gated{make(chan struct{})}
	s.insert(1, 4)
	s.start(verifying)
	verifying.allow(t, 1) // now it has begun, and reads the other three
	s.unread(0)
	if s.asks() {
		t.Error("a bridge that cannot read its checkpoint has published everything")
	}
	close(s.store.may)
	s.gate.allow(t, 3)
	if s.asks() {
		t.Error("a bridge with an unpublished change has published everything")
	}
	s.gate.allow(t, 1)
	s.awaits("all that was read is published", s.asks)
	s.insert(5, 8) // of which the verifier has room for none
	if !s.asks() {
		t.Error("changes that came later undo what was published")
	}
	verifying.allow(t, 2)
	s.unread(2)
	s.gate.allow(t, 1)
	if s.asks() {
		t.Error("what the verifier has read since is not published, and is said to be")
	}
	s.gate.allow(t, 1) // the rest is still to be published
	s.awaits("as much as was read is published", s.asks)
}

// late is a log whose first change becomes visible behind the third: the stream that
// does not give it ends there, and the next one gives nothing behind it.
type late struct {
	observer.Source

	opened *atomic.Int32
}

func (l late) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	stream, err := l.Source.Open(ctx, after)
	return &lateStream{Stream: stream, first: l.opened.Add(1) == 1}, err
}

type lateStream struct {
	observer.Stream

	first bool
	given int
}

func (l *lateStream) Next(ctx context.Context) (observer.Message, error) {
	l.given++
	switch {
	case l.first && l.given == 1:
		if msg, err := l.Stream.Next(ctx); err != nil {
			return msg, err
		}
	case l.first && l.given == 3:
		return observer.Message{}, errors.New("the connection is lost")
	case !l.first && l.given == 2:
		<-ctx.Done()
		return observer.Message{}, ctx.Err()
	}
	return l.Stream.Next(ctx)
}

// A change that became visible in front of what the verifier had read is not covered
// by where it had read to: until it has read all of it again, everything that is
// there has to be published.
func TestWhatBecameVisibleInFrontIsComparedToo(t *testing.T) {
	t.Parallel()
	s, verifying := newSides(t), gated{make(chan struct{})}
	close(s.store.may)
	s.insert(1, 4)
	s.startFrom(late{s.db.Source, &atomic.Int32{}}, verifying)
	s.gate.allow(t, 3)
	s.awaits("the first change is read in front of the others", func() bool {
		_, known := s.verifier.Read()
		return !known
	})
	s.awaits("three changes are published", func() bool {
		rest, _, err := s.db.Source.Backlog(t.Context(), s.relay.Handled())
		return err == nil && rest == 1
	})
	if s.asks() {
		t.Error("the last change is not published, and nothing tells whether the verifier has read it")
	}
	s.gate.allow(t, 1)
	s.awaits("everything is published", s.asks)
	if s.passed != "" {
		t.Errorf("the bridge has passed %s, which covers too little", s.passed)
	}
}

// lossy remembers what was published again.
type lossy struct {
	mu          sync.Mutex
	republished []string
}

// A bridge that is slow, or stopped, looks like no loss, however long that takes;
// what was published and is gone does.
func TestASlowBridgeIsNoLoss(t *testing.T) {
	t.Parallel()
	const group = "workers"
	s, stream, asked := newSides(t), &lossy{}, make(chan bool, 1000)
	close(s.store.may)
	s.insert(1, 2)
	handled := func(e *observer.Event) {
		if err := s.store.SaveReceipts(t.Context(), group, map[string][]string{"shop": {e.ID}}); err != nil {
			t.Error(err)
		}
	}
	events := s.events(2)
	v := reconcile.New(reconcile.Config{
		Group: group, Database: "shop", Receipts: s.store, Grace: 2 * time.Millisecond, Interval: time.Millisecond,
		Published: func(time.Time) bool {
			ok := s.asks()
			select {
			case asked <- ok:
			default:
			}
			return ok
		},
		Progress: func(context.Context) (reconcile.Progress, error) { // the workers are up to date all the time
			return reconcile.Progress{Life: "1", Partitions: []reconcile.Partition{{Last: 2, Handled: 2}}}, nil
		},
		Republish: func(_ context.Context, again []*observer.Event) error {
			stream.mu.Lock()
			defer stream.mu.Unlock()
			for _, e := range again {
				stream.republished = append(stream.republished, e.ID)
				handled(e)
			}
			return nil
		},
		Logger: slog.New(slog.DiscardHandler),
	})
	s.start(v)
	<-asked
	s.unread(0)
	s.gate.allow(t, 1)
	handled(events[0])
	for range 5 {
		if <-asked {
			t.Fatal("the bridge stands before the second change, and has published it")
		}
	}
	if n := v.Stats().Republished; n != 0 {
		t.Fatalf("%d events were published again that were never published", n)
	}
	s.gate.allow(t, 1) // it is published now, and lost
	s.awaits("all is verified", func() bool { return v.Stats().Verified == 2 })
	stream.mu.Lock()
	defer stream.mu.Unlock()
	if len(stream.republished) != 1 || stream.republished[0] != events[1].ID {
		t.Errorf("%v were published again, want %s", stream.republished, events[1].ID)
	}
}
