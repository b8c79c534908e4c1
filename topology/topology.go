// Package topology is the factory: it turns a configuration into the relays,
// the executor and the worker that run it. It is, with config and app, the only
// place that knows every adapter.
//
// Each database becomes one relay, into the one executor or to the stream, and each
// partition of the stream becomes one relay into the executor:
//
//	relay(database_i -> executor) x M        worker(state store -> action)
//
//	relay(database_i -> publisher) x M       relay(database_i -> verifier) x M
//	relay(partition_j -> executor) x P       worker(state store -> action)
//
// Whatever is read is read under a lease by one of the processes that share the
// state: [Topology.Run] takes its share of the databases and of the partitions.
//
// [Build] takes any configuration, and is what the daemon uses. [PostgresOnly],
// [PostgresRedis], [NATSDistributed] and [MultiDatabase] are Build for a program
// that is made for one shape and refuses the configuration of another.
package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/dedup"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/executor"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/reconcile"
	"github.com/fraiseql/observer/store/redis"
)

// Topology is everything that one process runs, wired and not yet started.
type Topology struct {
	// Databases are those whose changes this process may read.
	Databases []Database
	// Store keeps checkpoints and unfinished deliveries.
	Store observer.StateStore
	// Executor runs the actions of events.
	Executor *executor.Executor
	// Worker runs stored deliveries.
	Worker *delivery.Worker
	// Counters count how deliveries ended.
	Counters *middleware.Counters
	// Owner names this process in leases.
	Owner string

	shares []share
	// executes: this process runs the actions of events.
	executes bool
	stream   *stream       // nil unless events go through NATS
	places   chan struct{} // one for each event of the stream that is handled

	// neighbours is what else works on the same state.
	neighbours *neighbours

	// reconciles: what was published is compared with what was handled.
	reconciles  bool
	reconciling sync.Mutex
	verifiers   map[string]*reconcile.Verifier // by database
	republished uint64                         // by verifiers that ended

	layers  *layers
	actions atomic.Pointer[actions]
	network *outbound.Network
	redis   *redis.Client  // nil without one
	dedup   *dedup.Store   // nil unless Redis stands in front of the state store
	cache   closer         // nil when caching is turned off
	limiter *redis.Limiter // nil without Redis
	logger  *slog.Logger
}

// Build wires what cfg describes and opens its state store. Call
// [Topology.Close] when done.
func Build(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Topology, error) {
	client, err := OpenRedis(cfg)
	if err != nil {
		return nil, err
	}
	store, err := OpenStore(ctx, cfg, false)
	if err != nil {
		return nil, err
	}
	t := &Topology{
		Store: store, redis: client, Counters: &middleware.Counters{}, Owner: owner(), logger: logger, executes: cfg.Transport.RunExecutors || !cfg.Transport.Distributed(),
		reconciles: cfg.Transport.Distributed() && cfg.Transport.Bridge.Reconcile, verifiers: map[string]*reconcile.Verifier{},
		network: cfg.Network.Outbound(),
	}
	t.neighbours = newNeighbours(t)
	if err := t.buildLayers(ctx, cfg); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	set, err := t.layers.buildActions(cfg, t.deps(cfg))
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.actions.Store(set)
	t.Executor = executor.New(executor.Config{MaxConcurrentActions: maxActions(cfg)}, set.observers)
	t.buildShares(cfg)
	return t, nil
}

func (t *Topology) buildLayers(ctx context.Context, cfg *config.Config) error {
	stored, err := middleware.ReadStored(ctx, t.Store)
	if err != nil {
		return err
	}
	results, err := t.buildResults(cfg)
	if err != nil {
		return err
	}
	endpoints, traffic := t.trafficOf(cfg, t.shareLimits(redis.LimiterConfig{}))
	t.Worker = delivery.NewWorker(delivery.WorkerConfig{
		Store: t.Store, Run: t.RunStored, MayRepeat: t.MayRepeat, Bury: t.giveUp, Serves: t.serves, Owner: t.Owner, Endpoints: endpoints, Traffic: traffic,
		Concurrency: cfg.JobQueue.WorkerConcurrency, BatchSize: cfg.JobQueue.BatchSize, Queues: queuesOf(cfg),
		Lease: cfg.JobQueue.Lease, Poll: cfg.JobQueue.PollInterval,
		DrainTimeout: cfg.Performance.ShutdownTimeout, Logger: t.logger,
	})
	traffic.OnChange(t.Worker.Wake)
	t.layers = &layers{
		cfg: cfg, begun: context.WithoutCancel(ctx),
		store:   t.Store,
		observe: middleware.Observer{Logger: t.logger, Counters: t.Counters},
		worker:  t.Worker, endpoints: endpoints, traffic: traffic,
		stored: stored, dedup: t.dedupOf(cfg), results: results, caches: &middleware.CacheStats{}, logger: t.logger,
	}
	return nil
}

func queuesOf(cfg *config.Config) map[string]int {
	queues := map[string]int{}
	for _, q := range cfg.JobQueue.Queues {
		queues[q.Name] = q.Concurrency
	}
	return queues
}

func (t *Topology) deps(cfg *config.Config) config.Deps {
	return config.Deps{Network: t.network, SMTP: cfg.SMTP, Logger: t.logger}
}

// Reload puts the observers and alerts of cfg in place of the present ones, with
// the mail server and the retries that cfg gives them, all or none, and closes
// what those held once their deliveries have ended. What else differs needs a
// restart; see config.Config.Diff.
func (t *Topology) Reload(cfg *config.Config) error {
	set, err := t.layers.buildActions(cfg, t.deps(cfg))
	if err != nil {
		return err
	}
	replaced := t.actions.Swap(set)
	t.Executor.Replace(set.observers)
	return replaced.close()
}

// Close closes the connections of the actions and releases the stores.
func (t *Topology) Close() error {
	return errors.Join(append([]error{t.actions.Load().close()}, t.closeAll()...)...)
}

func maxActions(cfg *config.Config) int {
	if !cfg.Performance.EnableConcurrent {
		return 1
	}
	return cfg.Performance.MaxConcurrentActions
}

// owner tells a person where a lease is held.
func owner() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}
