package topology

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/fraiseql/observer/config"
)

// NATSDistributed is [Build] for a system of many processes around a JetStream
// stream: bridges publish what the databases record, workers run the actions, and
// one process may be both. cfg describes one of the processes. A configuration
// whose events do not go through NATS is refused.
func NATSDistributed(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Topology, error) {
	if !cfg.Transport.Distributed() {
		return nil, fmt.Errorf("this topology sends events through NATS, and [transport] transport of %s is %q: "+
			`write transport = "nats", or use Build`, cfg.Path, cfg.Transport.Kind)
	}
	return Build(ctx, cfg, logger)
}

// MultiDatabase is [NATSDistributed] for the process that publishes what several
// databases record to one stream. The workers of that stream have no database, and
// are built by NATSDistributed.
func MultiDatabase(ctx context.Context, cfg *config.Config, logger *slog.Logger) (*Topology, error) {
	switch n := len(cfg.Databases); {
	case cfg.Transport.Distributed() && !cfg.ReadsDatabases():
		return nil, fmt.Errorf("this topology reads databases, and run_bridge of %s is false: use NATSDistributed for a worker", cfg.Path)
	case n < 2:
		return nil, fmt.Errorf("this topology has several databases, and %s has %d: write another [[databases]], or use NATSDistributed", cfg.Path, n)
	}
	return NATSDistributed(ctx, cfg, logger)
}
