package cli

import (
	"errors"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/internal/demo"
)

func (c *cli) demoCommand() *cobra.Command {
	var opts demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "See committed changes become webhook calls; nothing to set up",
		Long: "Write orders into a temporary SQLite database, deliver their changes to a receiver\n" +
			"in this process, one of whose endpoints is slow and one of which fails, and print\n" +
			"each delivery. The summary at the end, or at Ctrl-C, compares what was committed\n" +
			"with what was received; the exit code is 1 when anything was lost.",
		Args: arguments(0, 0),
	}
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
		opts.Terminal = c.terminal()
		defer survivePipe()()
		ctx, stop := notify(cmd.Context(), func() {}, syscall.SIGHUP)
		defer stop()
		return demo.Run(ctx, opts, c.out)
	})
	return cmd
}

// survivePipe has writing to a pipe that nobody reads fail, until the returned
// function is called. Without it such a write ends the process, which then
// leaves its directory behind.
func survivePipe() (undo func()) {
	ignored := make(chan os.Signal, 1)
	signal.Notify(ignored, syscall.SIGPIPE)
	return func() { signal.Stop(ignored) }
}
