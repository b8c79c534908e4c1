package topology_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// distribute runs one process of many until ctx ends: a bridge, a worker, or both,
// as its configuration file says.
func distribute(ctx context.Context, file string) error {
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		return err
	}
	daemon, err := app.New(ctx, app.Options{Config: cfg, Build: topology.NATSDistributed})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

// The same program is the bridge and the workers: `program bridge.toml` once for
// each set of databases, `program worker.toml` as often as there is work.
func ExampleNATSDistributed() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := distribute(ctx, "worker.toml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
