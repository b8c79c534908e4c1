package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/demo"
)

func (c *cli) demoCommand() *cobra.Command {
	var opts demo.Options
	var url, topology string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See committed changes become webhook calls; nothing to set up",
		Long: "Write orders into a temporary SQLite database, or into schemas of the demo's own in\n" +
			"the PostgreSQL database that --database names, deliver their changes to a receiver\n" +
			"in this process, one of whose endpoints is slow and one of which fails, and print\n" +
			"each delivery. The summary at the end, or at Ctrl-C, compares what was committed\n" +
			"with what was received; the exit code is 1 when anything was lost.\n" +
			"With --topology distributed the changes go through a NATS server in this process to\n" +
			"several workers, processes of their own, of which one is killed half-way.",
		Args: arguments(0, 0),
	}
	cmd.Flags().StringVar(&url, "database", "", "a PostgreSQL `URL`: run there, in schemas that are dropped at the end")
	cmd.Flags().DurationVar(&opts.Duration, "duration", demo.DefaultDuration, "how long to write")
	cmd.Flags().IntVar(&opts.Rate, "rate", demo.DefaultRate, "how many orders to write in a second")
	cmd.Flags().BoolVar(&opts.Quiet, "quiet", false, "print the summary only")
	cmd.Flags().StringVar(&topology, "topology", "", "the `SHAPE` of the system: distributed goes through NATS to several workers, of which one is killed")
	cmd.Flags().IntVar(&opts.Workers, "workers", demo.DefaultWorkers, "how many workers there are with --topology distributed")
	cmd.AddCommand(c.demoWorkerCommand())
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if err := checkTopology(&opts, topology, url, cmd.Flags().Changed("workers")); err != nil {
			return err
		}
		switch {
		case opts.Duration <= 0 || opts.Rate <= 0:
			return usageError(errors.New("--duration and --rate must be above 0"))
		case c.format != formatText:
			return usageError(errors.New("the demo prints text only: leave --format out"))
		}
		place, err := useDatabase(&opts, url)
		if err != nil {
			return err
		}
		opts.Terminal = c.terminal()
		defer survivePipe()()
		ctx, stop := notify(cmd.Context(), func() {}, syscall.SIGHUP)
		defer stop()
		return plainly(place, demo.Run(ctx, opts, c.out))
	})
	return cmd
}

// checkTopology sets what is for several workers, and refuses what is not.
func checkTopology(opts *demo.Options, topology, url string, workersGiven bool) error {
	const distributed = "distributed"
	switch {
	case topology != "" && topology != distributed:
		return usageError(fmt.Errorf("--topology %s is unknown: write %s, or leave it out", topology, distributed))
	case topology == "" && workersGiven:
		return usageError(errors.New("--workers is for --topology distributed"))
	case topology == "":
		opts.Workers = 0
		return nil
	case url != "":
		return usageError(errors.New("--topology distributed runs on a SQLite database of its own: leave --database out"))
	case opts.Workers < demo.LeastWorkers || opts.Workers > demo.MostWorkers:
		return usageError(fmt.Errorf("--workers must be %d to %d: one of them is killed", demo.LeastWorkers, demo.MostWorkers))
	}
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program, to start its workers: %w", err)
	}
	opts.Worker = func(ctx context.Context, file string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, program, "demo", "worker", file) //nolint:gosec // this program itself
		cmd.Args[0] = os.Args[0]
		return cmd
	}
	return nil
}

// demoWorkerCommand is what the demo starts, and nobody else.
func (c *cli) demoWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use: "worker FILE", Hidden: true, Args: arguments(1, 1),
		RunE: c.do(func(cmd *cobra.Command, args []string) error {
			// Ctrl-C in the terminal is for the demo, which ends its workers in order.
			signal.Ignore(os.Interrupt, syscall.SIGHUP)
			return demo.Work(cmd.Context(), args[0], cmd.InOrStdin(), c.err)
		}),
	}
}

// useDatabase sets the database that a URL names, and says where it is.
func useDatabase(opts *demo.Options, url string) (place string, err error) {
	if url == "" {
		return "", nil
	}
	db, err := namedBy("--database", url)
	if err != nil {
		return "", err
	}
	if db.Kind() != config.Postgres {
		return "", usageError(errors.New("the demo makes a SQLite database of its own: leave --database out, or give a postgres:// URL"))
	}
	opts.Database = &db
	return db.Place(), nil
}

// survivePipe has writing to a pipe that nobody reads fail, until the returned
// function is called. Without it such a write ends the process, which then
// leaves its directory behind.
func survivePipe() (undo func()) {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGPIPE)
	return func() { signal.Stop(ignored) }
}
