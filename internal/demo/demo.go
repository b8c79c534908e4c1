package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
)

// The defaults of [Options].
const (
	DefaultDuration = 10 * time.Second
	DefaultRate     = 20
	DefaultWorkers  = 3

	// LeastWorkers and MostWorkers bound [Options].Workers.
	LeastWorkers = 2
	MostWorkers  = 9

	// drainTimeout is how long the demo waits for what is under way after the
	// writer stopped.
	drainTimeout = 15 * time.Second
	// drainPoll is the time between two looks at what is still under way.
	drainPoll = 10 * time.Millisecond
)

// ErrLost matches the error of a demo in which something was lost.
var ErrLost = errors.New("deliveries were lost")

// ErrUnexplained matches the error of a demo with workers in which something was
// delivered again although nobody who had delivered it was killed, or out of order.
var ErrUnexplained = errors.New("deliveries were repeated without a reason")

// Options say how long and how fast the demo runs.
type Options struct {
	// Duration is how long the writer writes; 10 s when zero.
	Duration time.Duration
	// Rate is how many orders the writer makes in a second; 20 when zero.
	// Each one changes a few times.
	Rate int
	// Database is a PostgreSQL database to run on, in schemas of the demo's own,
	// which are dropped at the end. A temporary SQLite database when nil.
	Database *config.Database
	// Workers, when it is not zero, has the changes go through a NATS server in this
	// process to as many processes of [Work], at least two, of which one is killed
	// half-way. It cannot be had with Database.
	Workers int
	// Worker is how a process is started that runs [Work] with a file and its
	// standard input. Required with Workers.
	Worker func(ctx context.Context, file string) *exec.Cmd
	// Quiet prints the summary only.
	Quiet bool
	// Terminal says that out is a terminal: a progress line is kept below the
	// others.
	Terminal bool

	// tamper is called with the connection of the shop before the writer begins,
	// and drain replaces drainTimeout: tests break the pipeline to see the loss
	// reported.
	tamper func(ctx context.Context, shop *shop) error
	drain  time.Duration
}

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Duration < 0:
		return o, fmt.Errorf("the duration of the demo is %s, want a positive one", o.Duration)
	case o.Rate < 0:
		return o, fmt.Errorf("the rate of the demo is %d orders a second, want a positive one", o.Rate)
	case o.Workers != 0 && (o.Workers < LeastWorkers || o.Workers > MostWorkers):
		return o, fmt.Errorf("the demo has %d workers, want %d to %d: one is killed", o.Workers, LeastWorkers, MostWorkers)
	case o.Workers != 0 && o.Database != nil:
		return o, errors.New("the demo with workers runs on a database of its own")
	}
	if o.Duration == 0 {
		o.Duration = DefaultDuration
	}
	if o.Rate == 0 {
		o.Rate = DefaultRate
	}
	if o.drain == 0 {
		o.drain = drainTimeout
	}
	return o, nil
}

// Run runs the demo and prints it to out. When ctx ends the writer stops, what
// is under way is delivered, and the summary is printed as always. It returns
// an error that matches [ErrLost] when anything that was committed is missing
// at the end, or [ErrUnexplained]. An out that cannot be written to any more ends it like ctx; it is
// an error unless out is a pipe whose reader went away. When Run returns,
// nothing it started is running, and its temporary directory and its schemas
// are gone.
func Run(ctx context.Context, opts Options, out io.Writer) (err error) {
	opts, err = opts.withDefaults()
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "fraiseql-observer-demo-")
	if err != nil {
		return fmt.Errorf("make a directory for the demo: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &demo{opts: opts, dir: dir, on: sqliteDatabase{dir}, ledger: newLedger(), screen: newScreen(out, opts, stop)}
	if opts.Database != nil {
		d.on = newPostgresDatabase(*opts.Database)
	}
	err = d.run(ctx)
	return errors.Join(err, d.screen.failure())
}

// demo is one run.
type demo struct {
	opts   Options
	dir    string
	on     database
	cfg    *config.Config
	ledger *ledger
	screen *screen
}

func (d *demo) run(ctx context.Context) (err error) {
	// What is under way is finished also after ctx has ended.
	whole, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	shop, err := openShop(whole, d.on, d.ledger)
	if err != nil {
		return fmt.Errorf("prepare the database of the demo: %w", err)
	}
	defer func() { err = errors.Join(err, shop.close(), d.drop(whole)) }()
	received, err := startReceiver(whole, d.ledger, d.screen)
	if err != nil {
		return fmt.Errorf("start the receiver of the demo: %w", err)
	}
	defer func() { err = errors.Join(err, received.stop(whole)) }()
	if d.opts.tamper != nil {
		if err := d.opts.tamper(whole, shop); err != nil {
			return err
		}
	}
	if d.opts.Workers > 0 {
		return d.distribute(ctx, whole, shop, received.url)
	}
	daemon, err := d.newDaemon(whole, configuration(d.on.sections(), received.url))
	if err != nil {
		return fmt.Errorf("start the daemon of the demo: %w", err)
	}
	d.screen.begin(d.on.place())
	err = d.observe(ctx, whole, daemon, func(writing, serving context.Context) error {
		writing, stop := context.WithTimeout(writing, d.opts.Duration)
		defer stop()
		if err := shop.write(writing, d.opts.Rate); err != nil {
			return err
		}
		return d.drain(serving, func(context.Context) (int, error) { return int(daemon.Counts().Dead), nil })
	})
	if err != nil {
		return err
	}
	return d.conclude(whole)
}

func (d *demo) newDaemon(ctx context.Context, text string) (*app.App, error) {
	cfg, err := config.Parse(filepath.Join(d.dir, "fraiseql-observer.toml"), []byte(text), d.on.lookup)
	if err != nil {
		return nil, err
	}
	d.cfg = cfg
	return app.New(ctx, app.Options{Config: cfg, Logger: slog.New(newTroubleLog(d.screen))})
}

// observe runs the daemon while work writes and waits until what was written is
// delivered. The writer is to stop when writing ends, and all when serving does,
// which is when the daemon fails.
func (d *demo) observe(ctx, whole context.Context, daemon *app.App, work func(writing, serving context.Context) error) error {
	serving, stop := context.WithCancel(whole)
	defer stop()
	writing, stopWriting := context.WithCancel(ctx)
	defer stopWriting()
	ended := make(chan error, 1)
	go func() {
		defer stop()
		defer stopWriting()
		ended <- daemon.Run(serving)
	}()
	progress := d.screen.startProgress(d.ledger)
	err := work(writing, serving)
	stop()
	progress()
	return errors.Join(err, <-ended)
}

// drain waits until every expected delivery was accepted or is dead, or until
// that takes too long, which the summary will show as loss.
func (d *demo) drain(ctx context.Context, dead func(context.Context) (int, error)) error {
	ctx, cancel := context.WithTimeout(ctx, d.opts.drain)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	for {
		n, err := dead(ctx)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil || d.ledger.unaccepted() <= n {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// conclude compares and prints. It runs after the daemon stopped, so that what
// the state store says is final.
func (d *demo) conclude(ctx context.Context) error {
	stored, err := readState(ctx, d.cfg)
	if err != nil {
		return fmt.Errorf("read the dead letters of the demo: %w", err)
	}
	s := d.ledger.summary(stored)
	d.screen.summary(s)
	return s.verdict()
}

func (d *demo) drop(ctx context.Context) error {
	if err := d.on.drop(ctx); err != nil {
		return fmt.Errorf("clean up after the demo: %w", err)
	}
	return nil
}
