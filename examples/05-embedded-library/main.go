// Command 05-embedded-library is a shop that runs the observer inside itself, on its own
// PostgreSQL database: no second process, and nothing else to operate.
//
//	DATABASE_URL=postgres://me@localhost/shop go run ./examples/05-embedded-library
//
// It makes its table, ships a few orders, and goes on until Ctrl-C.
package main

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/topology"
)

//go:embed observer.toml
var configuration []byte

func main() {
	ctx := context.Background() //nolint:forbidigo // main makes the first context
	if err := run(ctx, slog.New(slog.NewTextHandler(os.Stdout, nil))); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:forbidigo // main ends the process
	}
}

func run(ctx context.Context, logger *slog.Logger) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	cfg, err := config.Parse("observer.toml", configuration, os.LookupEnv)
	if err != nil {
		return err
	}
	url := cfg.Databases[0].URL.Reveal()
	if err := prepare(ctx, url); err != nil {
		return fmt.Errorf("prepare the shop: %w", err)
	}
	// The observer takes a lock on its state: of several copies of this program,
	// one delivers and the others are refused here.
	observer, err := app.New(ctx, app.Options{Config: cfg, Build: topology.PostgresOnly, Logger: logger})
	if err != nil {
		return fmt.Errorf("start the observer: %w", err)
	}
	delivering := make(chan error, 1)
	go func() { delivering <- observer.Run(ctx) }() // until ctx ends; it finishes what it has begun
	if err := ship(ctx, url, logger); err != nil && ctx.Err() == nil {
		logger.Error("orders could not be shipped", "error", err)
	}
	return <-delivering
}

// prepare makes the table of the shop and has its changes recorded, which also
// makes the change log. A real application does this in its migrations.
func prepare(ctx context.Context, url string) error {
	err := execute(ctx, url, `CREATE TABLE IF NOT EXISTS orders (
		id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, city text NOT NULL, status text NOT NULL DEFAULT 'new')`)
	if err == nil {
		_, err = capture.Add(ctx, url, capture.Capture{Table: "orders", Entity: "Order", BeforeImage: true})
	}
	return err
}

// ship is what the shop does otherwise. It knows nothing of the observer.
func ship(ctx context.Context, url string, logger *slog.Logger) error {
	for _, city := range []string{"Berlin", "Lyon", "Porto"} {
		if err := execute(ctx, url, `INSERT INTO orders (city) VALUES ($1)`, city); err != nil {
			return err
		}
	}
	logger.Info("three orders are placed")
	return execute(ctx, url, `UPDATE orders SET status = 'shipped' WHERE status = 'new'`)
}

func execute(ctx context.Context, url, statement string, args ...any) (err error) {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	_, err = conn.Exec(ctx, statement, args...)
	return err
}
