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

// observe runs what a configuration file with a PostgreSQL database and [redis]
// describes, until ctx ends.
func observe(ctx context.Context, file string) error {
	cfg, err := config.Load(file, os.LookupEnv)
	if err != nil {
		return err
	}
	daemon, err := app.New(ctx, app.Options{Config: cfg, Build: topology.PostgresRedis})
	if err != nil {
		return err
	}
	return daemon.Run(ctx)
}

func ExamplePostgresRedis() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := observe(ctx, "fraiseql-observer.toml"); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}
