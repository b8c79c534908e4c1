package topology

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/lease"
	"github.com/fraiseql/observer/relay"
)

// The groups of processes that share a state, as their leases are named.
const (
	// databaseGroup shares the databases, whether their changes are handled or
	// published.
	databaseGroup = "database/"
)

// DatabaseLease is the name of the lease of a database.
func DatabaseLease(database string) string { return databaseGroup + database }

// ProcessOf gives the host and the process id in the name of the holder of a
// lease. A process holds leases under several names that begin with it.
func ProcessOf(holder string) string {
	parts := strings.SplitN(holder, "/", 3)
	return strings.Join(parts[:min(len(parts), 2)], "/")
}

// share is one kind of thing that is read by one process at a time, and how this
// one reads it.
type share struct {
	group *lease.Group
	run   lease.RunFunc
}

// Run reads what falls to this process until ctx ends, and finishes what has
// begun: of all processes that share the state, each database is read by one at a
// time. The worker must run beside it. When it returns, nothing it started is
// running. It is called once.
func (t *Topology) Run(ctx context.Context) error {
	// Invariant 7: what a relay still handles may need the worker.
	detach := t.Worker.Attach()
	defer detach()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := make([]error, len(t.shares)+1)
	var running sync.WaitGroup
	if t.stream != nil {
		running.Go(func() {
			// A stream that cannot be used whatever is waited for ends everything.
			if _, err := t.stream.keepTrying(ctx); err != nil && ctx.Err() == nil {
				errs[len(t.shares)] = err
				cancel()
			}
		})
	}
	for i, s := range t.shares {
		running.Go(func() { errs[i] = s.group.Run(ctx, s.run) })
	}
	if t.stream != nil && len(t.Databases) > 0 {
		running.Go(func() { t.neighbours.watch(ctx) })
	}
	if t.stream != nil && t.stream.cfg.JetStream.PurgeHandled && len(t.Databases) > 0 {
		running.Go(func() { t.keepRoom(ctx) })
	}
	running.Wait()
	return errors.Join(errs...)
}

// LeasedPartition gives the consumer, the stream and the partition that the holder
// of a lease reads, as consumer/stream/partition, if it is such a lease.
func LeasedPartition(l observer.Lease) (name string, ok bool) {
	name, ok = strings.CutPrefix(l.Name, "nats/")
	return name, ok && strings.Count(name, "/") == 2
}

func (t *Topology) groupOf(cfg *config.Config, prefix string, names func() []string) *lease.Group {
	return lease.New(lease.Config{
		Store: t.Store, Holder: t.Owner, Prefix: prefix, Names: names, TTL: cfg.Leases.TTL, Logger: t.logger,
		// A member that looks less often cannot tell a store that was away from one
		// that is slow, and waits before it takes what ran out.
		Poll: min(lease.DefaultPoll, cfg.Leases.TTL/5),
	})
}

// buildShares decides what this process reads: databases, whose changes it handles
// or publishes, and the partitions of the stream.
func (t *Topology) buildShares(cfg *config.Config) {
	transport, read := cfg.Transport, t.readDatabase
	if transport.Distributed() {
		t.stream, read = newStream(transport.NATS, t.streamBroken, t.logger), t.publishDatabase
	}
	if transport.RunBridge || !transport.Distributed() {
		t.buildDatabases(cfg)
		t.share(cfg, databaseGroup, databaseNames(cfg), read)
	}
	if transport.Distributed() && transport.RunExecutors {
		t.places = make(chan struct{}, cfg.Performance.MaxConcurrency)
		t.share(cfg, t.stream.group(), t.stream.partitions, t.readPartition)
	}
}

func (t *Topology) share(cfg *config.Config, prefix string, names func() []string, read readFunc) {
	t.shares = append(t.shares, share{
		group: t.groupOf(cfg, prefix, names),
		run:   func(ctx context.Context, name string, held *lease.Held) error { return read(ctx, cfg, name, held) },
	})
}

// readFunc reads what has a name while the lease is held.
type readFunc func(ctx context.Context, cfg *config.Config, name string, held *lease.Held) error

func (t *Topology) buildDatabases(cfg *config.Config) {
	for _, db := range cfg.Databases {
		if poll := cfg.Transport.Bridge.PollInterval; poll > 0 && cfg.Transport.Distributed() {
			db.PollInterval = poll
		}
		t.Databases = append(t.Databases, Database{
			Config: db, Source: NewSource(db, t.rewound(db.Name), t.logger), checkpoint: cfg.CheckpointName(db.Name),
		})
	}
}

func databaseNames(cfg *config.Config) func() []string {
	names := make([]string, len(cfg.Databases))
	for i, db := range cfg.Databases {
		names[i] = db.Name
	}
	return func() []string { return names }
}

// readDatabase hands the changes of a database to the executor.
func (t *Topology) readDatabase(ctx context.Context, cfg *config.Config, name string, held *lease.Held) error {
	db, err := t.takeOver(ctx, name, held)
	if err != nil {
		return err
	}
	if err := t.leaveStream(ctx, cfg, db, held); err != nil {
		return err
	}
	return relay.New(relay.Config{
		Source: db.Source, Handler: t.Executor, Malformed: t.keepMalformed, Checkpoints: t.Store, Lease: held,
		Lanes: cfg.Performance.MaxConcurrency, InFlight: cfg.Performance.ChannelCapacity,
		DrainTimeout: cfg.Performance.ShutdownTimeout, Logger: t.logger,
	}).Run(ctx)
}

// takeOver learns what those who read a database before left.
func (t *Topology) takeOver(ctx context.Context, name string, held *lease.Held) (Database, error) {
	db, err := t.database(name)
	if err != nil {
		return db, err
	}
	if err := t.refresh(ctx); err != nil {
		return db, err
	}
	if err := t.beginAt(ctx, db, observer.Lease{Name: held.Name(), Term: held.Term()}); err != nil {
		return db, fmt.Errorf("begin to read database %s: %w", name, err)
	}
	return db, nil
}

// Begin prepares what [Topology.Run] does, so that what is committed after it ended
// is read: it takes over what other processes know, and saves the first checkpoint
// of databases that are to be read from now on. It asks them at once, each for a
// short time. Databases that cannot be read are left to Run.
func (t *Topology) Begin(ctx context.Context) error {
	if err := t.layers.endpoints.Refresh(ctx); err != nil {
		return err
	}
	var all sync.WaitGroup
	for _, db := range t.Databases {
		all.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, beginPatience)
			defer cancel()
			if err := t.beginUnderLease(ctx, db); err != nil {
				t.logger.Warn("it cannot be stored yet where reading begins; trying again", "source", db.Config.Name, "error", err)
			}
		})
	}
	all.Wait()
	return nil
}

// beginPatience is how long a start waits for a database, whose reading begins later
// then.
const beginPatience = 5 * time.Second

// beginUnderLease does nothing where another process has the lease: that one
// reads the database already.
func (t *Topology) beginUnderLease(ctx context.Context, db Database) (err error) {
	if db.Config.Start != config.StartNow {
		return nil
	}
	l, err := t.Store.AcquireLease(ctx, DatabaseLease(db.Config.Name), t.Owner+"/begin/"+rand.Text()[:8], t.layers.cfg.Leases.TTL)
	if errors.Is(err, observer.ErrBusy) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.Store.ReleaseLease(context.WithoutCancel(ctx), l)) }()
	return t.beginAt(ctx, db, l)
}

// refresh takes over what other processes know: which endpoints are paused, so
// that nothing is sent where somebody has paused it, and what is stored.
func (t *Topology) refresh(ctx context.Context) error {
	if err := t.layers.endpoints.Refresh(ctx); err != nil {
		return err
	}
	return t.layers.stored.Refresh(ctx)
}

// beginAt saves the first checkpoint of a database that is to be read from now on
// and has none, so that a restart goes on from there.
func (t *Topology) beginAt(ctx context.Context, db Database, l observer.Lease) error {
	if db.Config.Start != config.StartNow {
		return nil
	}
	_, err := t.Store.LoadCheckpoint(ctx, db.checkpoint)
	if err == nil || !errors.Is(err, observer.ErrNotFound) {
		return err
	}
	head, err := db.Source.Head(ctx)
	if err != nil {
		return err
	}
	t.logger.Info("reading begins with what is committed from now on", "source", db.Config.Name)
	return t.Store.SaveCheckpoint(ctx, db.checkpoint, observer.Checkpoint{Position: head, Lease: l.Name, Term: l.Term})
}

func (t *Topology) database(name string) (Database, error) {
	for _, db := range t.Databases {
		if db.Config.Name == name {
			return db, nil
		}
	}
	return Database{}, fmt.Errorf("%w: the configuration has no database %q", observer.ErrNotFound, name)
}
