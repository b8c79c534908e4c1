package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	"github.com/fraiseql/observer/topology"
)

func (c *cli) runCommand() *cobra.Command {
	var workerOnly bool
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon",
		Long: "Read the change logs of the configured databases and run the actions of the\n" +
			"observers that match, until SIGTERM or Ctrl-C; what has begun is then finished\n" +
			"within shutdown_timeout. A second signal stops at once. SIGHUP, or a change of the\n" +
			"file, reloads the observers; a file with a mistake changes nothing.\n" +
			"With --worker-only no change log is read: only stored deliveries are run, beside a\n" +
			"daemon, by as many such processes as you like.\n" +
			"The log goes to standard error; --format replaces its configured format.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&workerOnly, "worker-only", false, "run stored deliveries only, and read no change log")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		cfg, err := c.settings.load()
		if err != nil {
			return err
		}
		logFormat := cfg.Log.Format
		if cmd.Flags().Changed("format") {
			logFormat = c.format.String()
		}
		return c.run(cmd.Context(), app.Options{
			Config: cfg, Load: c.settings.load, WorkerOnly: workerOnly, Logger: newLogger(c.err, cfg.Log.Level, logFormat),
		})
	})
	return cmd
}

func newLogger(w io.Writer, level slog.Level, logFormat string) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	if logFormat == string(formatJSON) {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func (c *cli) run(ctx context.Context, opts app.Options) error {
	cfg, logger := opts.Config, opts.Logger
	ctx, stop := notify(ctx, func() {
		logger.Info("stopping: what has begun is finished first; a second signal stops at once",
			"shutdown_timeout", cfg.Performance.ShutdownTimeout)
	})
	defer stop()
	if !opts.WorkerOnly && cfg.ReadsDatabases() {
		if err := reach(ctx, cfg); err != nil {
			return unlessStopped(ctx, err)
		}
	}
	daemon, err := app.New(ctx, opts)
	if err != nil {
		return unlessStopped(ctx, connectionError(err))
	}
	b := readBuild()
	logger.Info("starting", "version", b.Version, "pid", os.Getpid(), "config", cfg.Path, "state", cfg.State.Place())
	for _, warning := range cfg.Warnings() {
		logger.Warn("configuration", "warning", warning)
	}
	unhook := reloadOnHangup(daemon, logger)
	defer unhook()
	return daemon.Run(ctx)
}

// unlessStopped is err, unless a signal ended the start: a statement that was cut
// off may fail with any error.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	return nil
}

// lookPatience is how long a server that does not answer keeps a daemon waiting
// that can read others.
const lookPatience = 2 * time.Second

// reach looks at every database before anything is made, so that a wrong path is
// one line and leaves no state file behind. Of servers that are away, one that
// answers is enough: the daemon names the others and goes on trying.
func reach(ctx context.Context, cfg *config.Config) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	looked := make(chan error, len(cfg.Databases))
	for _, db := range cfg.Databases {
		go func() {
			_, err := topology.NewSource(db, nil, slog.New(slog.DiscardHandler)).Head(ctx)
			if err != nil {
				err = fmt.Errorf("database %s: %w", db.Name, explain(err, db.Place()))
			}
			looked <- err
		}()
	}
	var errs []error
	var patience <-chan time.Time // for the others, once one can be read
	for range cfg.Databases {
		select {
		case err := <-looked:
			switch {
			case err == nil:
				patience = time.After(lookPatience)
			case errors.Is(err, sqlitesource.ErrNoDatabase), errors.Is(err, sqlitesource.ErrNoLog):
				return connectionError(err) // that does not mend itself
			default:
				errs = append(errs, err)
			}
		case <-patience:
			return nil
		}
	}
	if len(errs) < len(cfg.Databases) || len(errs) == 0 {
		return nil
	}
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return connectionError(errors.Join(errs...))
}

// explain says what to do about a log that cannot be read. What PostgreSQL says
// is explained already.
func explain(err error, path string) error {
	switch {
	case errors.Is(err, sqlitesource.ErrNoDatabase):
		return fmt.Errorf("%w; once the file is there, record a table with `%s capture add --table TABLE --entity ENTITY`", err, program)
	case errors.Is(err, sqlitesource.ErrNoLog):
		return fmt.Errorf("%s: %w; make one with `%s capture add --table TABLE --entity ENTITY`", path, sqlitesource.ErrNoLog, program)
	}
	return err
}

// notify ends the returned context at the first SIGINT, SIGTERM or one of more,
// and calls began; the second one ends the process, as if nothing listened.
func notify(ctx context.Context, began func(), more ...os.Signal) (context.Context, context.CancelFunc) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, append(more, os.Interrupt, syscall.SIGTERM)...)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-signals:
			signal.Stop(signals)
			began()
			cancel()
		case <-ctx.Done():
			signal.Stop(signals)
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// reloadOnHangup reloads at SIGHUP until the returned function is called.
func reloadOnHangup(daemon *app.App, logger *slog.Logger) (unhook func()) {
	hangups, stop, done := make(chan os.Signal, 1), make(chan struct{}), make(chan struct{})
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-hangups:
				if err := daemon.Reload(); err != nil {
					logger.Error("configuration was not reloaded; the running one stays", "signal", "SIGHUP", "error", err)
				}
			}
		}
	}()
	return func() {
		signal.Stop(hangups)
		close(stop)
		<-done
	}
}
