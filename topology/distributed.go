package topology

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/lease"
	"github.com/fraiseql/observer/reconcile"
	"github.com/fraiseql/observer/relay"
	"github.com/fraiseql/observer/transport/nats"
)

// bridgeQueue is the queue of what a bridge could not publish, which only a
// process that reads the database may run. No configured queue has such a name.
func bridgeQueue(database string) string { return "@bridge/" + database }

// serves reports whether this process may run what is stored in a queue.
func (t *Topology) serves(queue string) bool {
	if database, ok := strings.CutPrefix(queue, bridgeQueue("")); ok {
		_, err := t.database(database)
		return err == nil
	}
	return t.executes
}

// publishDatabase publishes the changes of a database.
func (t *Topology) publishDatabase(ctx context.Context, cfg *config.Config, name string, held *lease.Held) error {
	// A server that is away is waited for here, before anything is asked of the state.
	if _, err := t.stream.keepTrying(ctx); err != nil {
		return err
	}
	if err := t.neighbours.announce(ctx, name); err != nil {
		return err
	}
	db, err := t.takeOver(ctx, name, held)
	if err != nil {
		return err
	}
	size := cfg.Transport.Bridge.BatchSize
	publisher, err := t.publisher(ctx, name, size)
	if err != nil {
		return err
	}
	b := &bridge{topology: t, cfg: cfg, db: db, held: held, publisher: publisher}
	b.relay = relay.New(relay.Config{
		Source: b.bridged(), Handler: publisher, Malformed: t.keepMalformed, Checkpoints: t.Store, Lease: held,
		Batch: size, InFlight: bridgeInFlight * size, Reopen: backoff.Policy{Max: reopenAfter},
		DrainTimeout: cfg.Performance.ShutdownTimeout, Logger: t.logger,
	})
	if !t.reconciles || !t.stream.cfg.Looks(name) {
		if err := reconcile.Retire(ctx, t.Store, b.verified(), observer.Lease{Name: held.Name(), Term: held.Term()}); err != nil {
			return err
		}
		return b.relay.Run(ctx)
	}
	return b.run(ctx)
}

const (
	// bridgeInFlight is how many batches are read ahead of the one that is published.
	bridgeInFlight = 4
	// reopenAfter is the longest wait after a failure of the stream, or of a database
	// that is published: it may have room again, or be back, at any moment.
	reopenAfter = 5 * time.Second
)

func (t *Topology) publisher(ctx context.Context, database string, batchSize int) (*nats.Publisher, error) {
	ready, err := t.stream.get(ctx)
	if err != nil {
		return nil, err
	}
	return nats.NewPublisher(ready, nats.PublisherConfig{
		Database: database, BatchSize: batchSize, Logger: t.logger,
		Oversized: func(ctx context.Context, e *observer.Event, why error) error {
			return t.keepUnpublished(ctx, database, e, why)
		},
	})
}

// unpublishedAction is what the delivery of an event is called that no message can
// carry.
const unpublishedAction = "publish"

// keepUnpublished makes a dead letter of an event that no message can carry.
// Invariant 10: it is kept, and the rest goes on.
func (t *Topology) keepUnpublished(ctx context.Context, database string, e *observer.Event, why error) error {
	d := observer.NewDelivery(e, bridgeQueue(database), 0, unpublishedAction)
	d.Queue = d.Observer
	if err := t.layers.bury(ctx, t.actions.Load().malformed, d, why); err != nil {
		return err
	}
	return t.saveReceipts(ctx, []relay.Receipt{{ID: e.ID, Origin: database}})
}

// runUnpublished publishes such an event, after the server was allowed to take it.
// Where the changes go through no stream any more it is handled as an event of the
// log.
func (t *Topology) runUnpublished(ctx context.Context, d *observer.Delivery, database string) error {
	if t.stream == nil {
		if _, err := t.database(database); err != nil {
			return t.buryStored(ctx, d, observer.ReasonUnconfigured, err)
		}
	}
	a := observer.Attempt{Number: len(d.Attempts) + 1, At: time.Now()}
	var err error
	if t.stream != nil {
		err = t.publish(ctx, database, d.Event)
	} else if err = t.Executor.Handle(withoutWaiting(ctx), d.Event); err != nil {
		return err
	}
	a.Duration = time.Since(a.At)
	if err != nil {
		a.Error = err.Error()
	}
	d.Attempts = append(d.Attempts, a)
	if err != nil {
		return t.buryStored(ctx, d, observer.ReasonPermanent, err)
	}
	d.Succeed()
	t.layers.observe.Ended(ctx, d, 0, nil)
	return nil
}

// publish publishes one event beside the bridge: it is fenced like that.
func (t *Topology) publish(ctx context.Context, database string, e *observer.Event) error {
	ready, err := t.stream.get(ctx)
	if err != nil {
		return err
	}
	publisher, err := nats.NewPublisher(ready, nats.PublisherConfig{
		Database: database, Logger: t.logger,
		Oversized: func(_ context.Context, _ *observer.Event, why error) error {
			return observer.Permanent(observer.ReasonPermanent, why)
		},
	})
	if err != nil {
		return err
	}
	return publisher.Handle(ctx, e)
}

// readPartition hands the events of a partition to the executor.
func (t *Topology) readPartition(ctx context.Context, cfg *config.Config, name string, held *lease.Held) error {
	partition, err := strconv.Atoi(name)
	if err != nil {
		return fmt.Errorf("a partition called %q: %w", name, err)
	}
	if err := t.refresh(ctx); err != nil {
		return err
	}
	source, err := t.stream.source(ctx, partition)
	if err != nil {
		return err
	}
	p := cfg.Performance
	return relay.New(relay.Config{
		Source: source, Handler: crowded{t.Executor, t.places}, Malformed: t.keepMalformed, Checkpoints: t.Store, Lease: held,
		Lanes: p.MaxConcurrency, InFlight: max(p.ChannelCapacity/max(t.stream.cfg.Partitions, 1), leastInFlight),
		Receipts: t.receipts(), CheckpointInterval: partitionCheckpoints, Reopen: backoff.Policy{Max: reopenAfter},
		DrainTimeout: p.ShutdownTimeout, Logger: t.logger,
	}).Run(ctx)
}

const (
	// leastInFlight is how many events of a partition may be unfinished at least.
	leastInFlight = 64
	// partitionCheckpoints is the time between two checkpoints of a partition: there
	// are many of them.
	partitionCheckpoints = 100 * time.Millisecond
)

// crowded bounds how many events the partitions of this process handle together.
type crowded struct {
	observer.Handler

	places chan struct{}
}

// Handle waits for a place.
func (c crowded) Handle(ctx context.Context, e *observer.Event) error {
	select {
	case c.places <- struct{}{}:
		defer func() { <-c.places }()
	case <-observer.Drain(ctx):
		return errDraining
	case <-ctx.Done():
		return ctx.Err()
	}
	return c.Handler.Handle(ctx, e)
}

var errDraining = fmt.Errorf("the process stops before this event began: %w", context.Canceled)

// streamBroken raises the alert about a stream that does not continue what was
// read. The source has logged it.
func (t *Topology) streamBroken(name string, b nats.Break) {
	t.alert(t.layers.begun, reasonStreamBroken, name, b.Reason)
}
