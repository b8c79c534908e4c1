package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/lease"
	"github.com/fraiseql/observer/reconcile"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/transport/nats"
)

// reconcileName is the name of the checkpoint up to which the changes of a database
// are known to be handled by the workers of a consumer, from a stream: what others
// handled has no receipts of theirs.
func reconcileName(database string, n config.NATS) string {
	return "reconcile/" + database + "/" + n.ConsumerName + "/" + n.StreamName
}

// ReconcileName is the name of the checkpoint up to which the changes of a database
// are verified, if a configuration has that done.
func ReconcileName(cfg *config.Config, database string) (name string, ok bool) {
	transport := cfg.Transport
	return reconcileName(database, transport.NATS), transport.Distributed() && transport.Bridge.Reconcile && transport.NATS.Looks(database)
}

// leaveStream has a database read from where the workers are known to have handled
// it, when it went through a stream before: what is in the stream and was not
// handled is not lost, and what was handled since may be handled again.
func (t *Topology) leaveStream(ctx context.Context, cfg *config.Config, db Database, held *lease.Held) error {
	name := reconcileName(db.Config.Name, cfg.Transport.NATS)
	l := observer.Lease{Name: held.Name(), Term: held.Term()}
	verified, ok, err := reconcile.Verified(ctx, t.Store, name)
	if !ok || err != nil {
		return err
	}
	verified.Lease, verified.Term = l.Name, l.Term
	if err := t.Store.SaveCheckpoint(ctx, db.checkpoint, verified); err != nil {
		return fmt.Errorf("go back to what is verified of database %s: %w", db.Config.Name, err)
	}
	t.logger.Warn("the changes went through a stream before; reading goes back to those that its workers are known to have handled", "source", db.Config.Name)
	return reconcile.Retire(ctx, t.Store, name, l)
}

// HandledName is the name of the checkpoint up to which the log of a database need
// not be kept.
func (t *Topology) HandledName(db Database) string {
	if t.reconciles && t.stream.cfg.Looks(db.Config.Name) {
		return reconcileName(db.Config.Name, t.stream.cfg)
	}
	return db.checkpoint
}

// Reconciled says what the reconcilers of this process did, by database. A
// database that another process reads is not among them.
func (t *Topology) Reconciled() map[string]reconcile.Stats {
	t.reconciling.Lock()
	defer t.reconciling.Unlock()
	all := map[string]reconcile.Stats{}
	for name, v := range t.verifiers {
		all[name] = v.Stats()
	}
	return all
}

// bridge is what publishes a database and finds out what got lost.
type bridge struct {
	topology  *Topology
	cfg       *config.Config
	db        Database
	held      *lease.Held
	publisher *nats.Publisher
	// relay publishes, verifier verifies.
	relay, verifier *relay.Relay
	// passed is a place of the verifier that the bridge has passed, asked when that was
	// asked for the last time. Both are used by the verifier's handler alone.
	passed observer.Position
	asked  time.Time
	// begun: the bridge knows its place in the log.
	begun atomic.Bool
}

// bridged is the log as the bridge reads it.
func (b *bridge) bridged() observer.Source {
	return bridged{renamed{b.db.Source, b.db.checkpoint}, b}
}

// bridged is a source that tells when it is opened: the relay knows its place then.
type bridged struct {
	renamed

	by *bridge
}

// Open implements [observer.Source].
func (s bridged) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	s.by.begun.Store(true)
	return s.renamed.Open(ctx, after)
}

// verified is the name of the verifier's checkpoint.
func (b *bridge) verified() string { return reconcileName(b.db.Config.Name, b.topology.stream.cfg) }

// run publishes, and verifies beside that, until ctx ends.
func (b *bridge) run(ctx context.Context) error {
	l := observer.Lease{Name: b.held.Name(), Term: b.held.Term()}
	// Before anything is published: what was published earlier may have no receipts.
	if err := reconcile.Begin(ctx, b.topology.Store, b.verified(), b.db.checkpoint, l); err != nil {
		return fmt.Errorf("reconcile database %s: %w", b.db.Config.Name, err)
	}
	return both(ctx, b.relay.Run, b.verify)
}

// verify compares the log with what the workers have handled, until ctx ends.
func (b *bridge) verify(ctx context.Context) error {
	t, name := b.topology, b.verified()
	verifier := reconcile.New(reconcile.Config{
		Group: t.stream.group(), Database: b.db.Config.Name, Receipts: t.Store, Grace: b.cfg.Transport.Bridge.Grace,
		Progress:  t.progress,
		Published: func(time.Time) bool { return b.published(ctx) },
		Republish: func(ctx context.Context, events []*observer.Event) error {
			if err := b.held.Await(ctx); err != nil {
				return err
			}
			return b.publisher.Republish(ctx, events)
		},
		Alert: func(ctx context.Context, n int, first string) {
			t.alert(ctx, reasonMissing, "database "+b.db.Config.Name,
				strconv.Itoa(n)+" events were published and never handled, the first of them "+first+"; they are published again")
		},
		Logger: t.logger,
	})
	t.enter(b.db.Config.Name, verifier)
	defer t.leave(b.db.Config.Name, verifier)
	slow := b.db.Config
	slow.PollInterval = max(slow.PollInterval, verifyPoll)
	b.verifier = relay.New(relay.Config{
		Source:  renamed{NewSource(slow, nil, t.logger), name},
		Handler: selected{verifier, b.cfg.Transport.NATS}, Malformed: func(context.Context, *observer.Malformed) error { return nil },
		Checkpoints: t.Store, Lease: b.held, Batch: verifyBatch, InFlight: 2 * verifyBatch,
		Saved: func(ctx context.Context, handled []relay.Receipt) {
			ids := make([]string, len(handled))
			for i, r := range handled {
				ids[i] = r.ID
			}
			verifier.Saved(ctx, ids)
		},
		DrainTimeout: time.Second, Logger: t.logger,
	})
	return both(ctx, b.verifier.Run, func(ctx context.Context) error { verifier.Watch(ctx); return nil })
}

// published reports whether the bridge has published everything that the verifier
// has read. It compares how many rows come after each of the two places in the
// log, first after that of the verifier: what is committed meanwhile only makes the
// answer a later one. While no place of the verifier covers what it has read, nothing
// in the log may be unpublished. It asks the database, and not all the time.
func (b *bridge) published(ctx context.Context) bool {
	read, known := b.verifier.Read()
	if known && read == b.passed {
		return true
	}
	if !b.begun.Load() || time.Since(b.asked) < publishedEvery {
		return false
	}
	b.asked = time.Now()
	var rest int64
	var err error
	if known {
		if rest, _, err = b.db.Source.Backlog(ctx, read); err != nil {
			return false
		}
	}
	ahead, _, err := b.db.Source.Backlog(ctx, b.relay.Handled())
	if err != nil || ahead > rest {
		return false
	}
	if known {
		b.passed = read
	}
	return true
}

const (
	// verifyBatch is how many events are verified together: they wait for each other.
	verifyBatch = 2_000
	// verifyPoll is how often an idle log is looked at to verify it.
	verifyPoll = 5 * time.Second
	// publishedEvery is the time between two questions how far a bridge is.
	publishedEvery = 2 * time.Second
)

func (t *Topology) enter(name string, v *reconcile.Verifier) {
	t.reconciling.Lock()
	defer t.reconciling.Unlock()
	t.verifiers[name] = v
}

func (t *Topology) leave(name string, v *reconcile.Verifier) {
	t.reconciling.Lock()
	defer t.reconciling.Unlock()
	if t.verifiers[name] == v {
		delete(t.verifiers, name)
		t.republished += v.Stats().Republished
	}
}

// Republished counts the events that this process published again because the
// stream had lost them. While nothing is lost it is 0.
func (t *Topology) Republished() uint64 {
	t.reconciling.Lock()
	defer t.reconciling.Unlock()
	total := t.republished
	for _, v := range t.verifiers {
		total += v.Stats().Republished
	}
	return total
}

// progress is how far the stream goes, and the workers in it.
func (t *Topology) progress(ctx context.Context) (p reconcile.Progress, err error) {
	return t.progressOf(ctx, t.stream.cfg.ConsumerName)
}

// progressOf is the same for the workers of a consumer.
func (t *Topology) progressOf(ctx context.Context, consumer string) (p reconcile.Progress, err error) {
	for i := range t.stream.cfg.Partitions {
		source, err := t.stream.sourceFor(ctx, consumer, i)
		if err != nil {
			return p, err
		}
		reach, err := source.Reach(ctx, func(ctx context.Context) (observer.Position, error) {
			cp, err := t.Store.LoadCheckpoint(ctx, source.Name())
			if errors.Is(err, observer.ErrNotFound) {
				err = nil
			}
			return cp.Position, err
		})
		if err != nil {
			return p, err
		}
		if p.Life != "" && p.Life != reach.Life {
			return p, errReplaced
		}
		p.Life = reach.Life
		p.Partitions = append(p.Partitions, reconcile.Partition{Last: reach.Last, Handled: reach.Passed})
	}
	return p, nil
}

var errReplaced = errors.New("the stream was replaced while it was looked at")

// receipts is what a worker tells of, nil when nobody wants to know.
func (t *Topology) receipts() func(context.Context, []relay.Receipt) error {
	if !t.reconciles {
		return nil
	}
	return t.saveReceipts
}

// saveReceipts tells the reconcilers what this worker has handled.
func (t *Topology) saveReceipts(ctx context.Context, handled []relay.Receipt) error {
	if !t.reconciles {
		return nil
	}
	byDatabase := map[string][]string{}
	for _, r := range handled {
		if r.Origin != "" && r.ID != "" {
			byDatabase[r.Origin] = append(byDatabase[r.Origin], r.ID)
		}
	}
	if len(byDatabase) == 0 {
		return nil
	}
	return t.Store.SaveReceipts(ctx, t.stream.group(), byDatabase)
}

// renamed is a source whose progress is kept under another name.
type renamed struct {
	observer.Source

	name string
}

// Name is the other name.
func (r renamed) Name() string { return r.name }

// selected has verified only what the workers look at.
type selected struct {
	*reconcile.Verifier

	by config.NATS
}

// HandleBatch implements [observer.BatchHandler].
func (s selected) HandleBatch(ctx context.Context, events []*observer.Event) error {
	if len(s.by.Entities) > 0 || len(s.by.Tenants) > 0 {
		events = slices.DeleteFunc(slices.Clone(events), func(e *observer.Event) bool {
			return len(s.by.Entities) > 0 && !slices.Contains(s.by.Entities, e.EntityType) ||
				len(s.by.Tenants) > 0 && !slices.Contains(s.by.Tenants, e.TenantID)
		})
	}
	if len(events) == 0 {
		return nil
	}
	return s.Verifier.HandleBatch(ctx, events)
}

// both runs two things side by side, and ends both when one ends.
func both(ctx context.Context, a, b func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var errs [2]error
	var running sync.WaitGroup
	for i, run := range []func(context.Context) error{a, b} {
		running.Go(func() {
			defer cancel()
			errs[i] = run(ctx)
		})
	}
	running.Wait()
	return errors.Join(errs[:]...)
}
