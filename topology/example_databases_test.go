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

// gather publishes what the databases of a configuration file record to one
// stream, until ctx ends. A database that is away keeps no other one waiting.
func gather(ctx context.Context, file string) error {
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		return err
	}
	daemon, err := app.New(ctx, app.Options{Config: cfg, Build: topology.MultiDatabase})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

func ExampleMultiDatabase() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := gather(ctx, "bridge.toml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
