package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/demo"
)

func (c *cli) demoCommand() *cobra.Command {
	var opts demo.Options
	var url string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See committed changes become webhook calls; nothing to set up",
		Long: "Write orders into a temporary SQLite database, or into schemas of the demo's own in\n" +
			"the PostgreSQL database that --database names, deliver their changes to a receiver\n" +
			"in this process, one of whose endpoints is slow and one of which fails, and print\n" +
			"each delivery. The summary at the end, or at Ctrl-C, compares what was committed\n" +
			"with what was received; the exit code is 1 when anything was lost.",
		Args: arguments(0, 0),
	}
	cmd.Flags().StringVar(&url, "database", "", "a PostgreSQL `URL`: run there, in schemas that are dropped at the end")
	cmd.Flags().DurationVar(&opts.Duration, "duration", demo.DefaultDuration, "how long to write")
	cmd.Flags().IntVar(&opts.Rate, "rate", demo.DefaultRate, "how many orders to write in a second")
	cmd.Flags().BoolVar(&opts.Quiet, "quiet", false, "print the summary only")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
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
