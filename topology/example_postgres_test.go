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

// smallest runs what a configuration file with one PostgreSQL database describes,
// until ctx ends.
func smallest(ctx context.Context, file string) error {
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		return err
	}
	daemon, err := app.New(ctx, app.Options{Config: cfg, Build: topology.PostgresOnly})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

func ExamplePostgresOnly() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := smallest(ctx, "fraiseql-observer.toml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
