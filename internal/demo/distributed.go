package demo

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/topology"
	"github.com/fraiseql/observer/transport/nats/embedded"
)

const (
	// partitions is how many logs the stream of the demo has.
	partitions = 12
	// leaseTTL is how long the leases of a killed worker last. It is shorter than
	// by default, so that nobody waits long for the demo.
	leaseTTL = 3 * time.Second
)

// distribute runs the demo with a bridge in this process, and workers that are
// processes of their own.
func (d *demo) distribute(ctx, whole context.Context, shop *shop, receiver string) (err error) {
	token := rand.Text()
	server, err := embedded.Start(embedded.Config{StoreDir: filepath.Join(d.dir, "nats"), Token: observer.NewSecret(token)})
	if err != nil {
		return fmt.Errorf("start the NATS server of the demo: %w", err)
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	through := transportSections(server.URL(), token)
	bridge, err := d.newDaemon(whole, d.on.sections()+fmt.Sprintf(through, "run_executors = false"))
	if err != nil {
		return fmt.Errorf("start the bridge of the demo: %w", err)
	}
	d.screen.beginDistributed(d.on.place())
	var c *crew
	err = d.observe(ctx, whole, bridge, func(writing, serving context.Context) (err error) {
		_, state, _ := strings.Cut(d.on.sections(), "[state]") // a worker has no database
		c, err = d.startCrew(serving, configuration("[state]"+state+fmt.Sprintf(through, "run_bridge = false"), receiver))
		if err != nil {
			return err
		}
		// The workers end before the bridge and the server do.
		defer func() { err = errors.Join(err, c.stop()) }()
		return d.writeAndKill(writing, c, shop)
	})
	if err != nil {
		return err
	}
	d.ledger.explain(c.outage())
	return d.conclude(whole)
}

// transportSections has a place for the half that a process leaves out.
func transportSections(url, token string) string {
	return "\n[transport]\ntransport = \"nats\"\n%s\n\n[transport.nats]\nurl = '" + url + "'\ntoken = '" + token + "'\npartitions = " +
		strconv.Itoa(partitions) + "\n\n[leases]\nttl = '" + leaseTTL.String() + "'                        # 10s unless configured\n"
}

// writeAndKill writes, with a worker killed half-way, and waits until all of it is
// delivered.
func (d *demo) writeAndKill(writing context.Context, c *crew, shop *shop) error {
	if err := c.share(writing); err != nil {
		return err
	}
	serving := c.ctx
	writing, stop := context.WithTimeout(writing, d.opts.Duration)
	defer stop()
	killing := make(chan error, 1)
	go func() {
		timer := time.NewTimer(d.opts.Duration / 2)
		defer timer.Stop()
		select {
		case <-timer.C:
			killing <- c.killOne(serving)
		case <-writing.Done():
			killing <- nil
		}
	}()
	err := shop.write(writing, d.opts.Rate)
	stop()
	if err := errors.Join(err, <-killing); err != nil {
		return err
	}
	return d.drain(serving, c.dead)
}

// workerFile is the configuration of all workers. There is a token in it.
func (d *demo) workerFile(text string) (string, error) {
	file := filepath.Join(d.dir, "worker.toml")
	return file, os.WriteFile(file, []byte(text), 0o600)
}

func (d *demo) startCrew(ctx context.Context, configuration string) (*crew, error) {
	file, err := d.workerFile(configuration)
	if err != nil {
		return nil, err
	}
	store, err := topology.OpenStore(ctx, d.cfg, true)
	if err != nil {
		return nil, fmt.Errorf("look at the leases of the demo: %w", err)
	}
	c := &crew{store: store, screen: d.screen}
	c.ctx, c.fail = context.WithCancelCause(ctx)
	for n := range d.opts.Workers {
		w, err := startWorker(n+1, d.opts.Worker(context.WithoutCancel(ctx), file), d.screen, c.fail)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start worker %d of the demo: %w", n+1, err), c.stop())
		}
		c.workers = append(c.workers, w)
	}
	return c, nil
}
