package demo

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/topology"
)

// crew are the workers of a demo, and who of them reads which partitions.
type crew struct {
	store   observer.StateStore
	screen  *screen
	workers []*worker
	ctx     context.Context //nolint:containedctx // it ends, with the cause, when a worker ends by itself
	fail    context.CancelCauseFunc

	killed   *worker
	killedAt time.Time
	orphaned []int // the partitions that the killed worker read
}

const (
	// sharePatience is how long the workers may take to start and to share the
	// partitions, and takeOverPatience how long to share those of one that was killed.
	sharePatience    = 30 * time.Second
	takeOverPatience = leaseTTL + 20*time.Second
	// look is the time between two looks at the leases.
	lookInterval = 20 * time.Millisecond
)

// readers are the processes that read partitions, by partition.
func (c *crew) readers(ctx context.Context) (map[int]int, error) {
	leases, err := c.store.Leases(ctx, "")
	if err != nil {
		return nil, err
	}
	readers := map[int]int{}
	for _, l := range leases {
		name, ok := topology.LeasedPartition(l)
		if !ok || !l.Running() {
			continue
		}
		partition, err := strconv.Atoi(name[strings.LastIndex(name, "/")+1:])
		if err != nil {
			continue // a lease of a member
		}
		readers[partition] = processOf(l.Holder)
	}
	return readers, nil
}

// processOf is the id in the name of a holder: host, process id, and what makes it
// unique.
func processOf(holder string) int {
	parts := strings.Split(holder, "/")
	pid, _ := strconv.Atoi(parts[max(0, len(parts)-2)]) // 0 is nobody's
	return pid
}

// await looks at the readers until done says that it is over.
func (c *crew) await(ctx context.Context, done func(readers map[int]int) bool) error {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		readers, err := c.readers(ctx)
		switch {
		case err == nil && done(readers):
			return nil
		case err != nil && ctx.Err() == nil && c.ctx.Err() == nil:
			return err
		}
		select {
		case <-tick.C:
		case <-c.ctx.Done():
			return context.Cause(c.ctx)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// share waits until every worker has its share of the partitions, and says so. A
// ctx that ends before is no error.
func (c *crew) share(ctx context.Context) error {
	waiting, cancel := context.WithTimeout(ctx, sharePatience)
	defer cancel()
	most := (partitions + len(c.workers) - 1) / len(c.workers)
	var shared map[int]int
	err := c.await(waiting, func(readers map[int]int) bool {
		shared = readers
		return len(readers) == partitions && !slices.ContainsFunc(c.workers, func(w *worker) bool {
			n := len(readBy(readers, w))
			return n == 0 || n > most
		})
	})
	switch {
	case ctx.Err() != nil:
		return nil
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the workers of the demo did not share the partitions within %s", sharePatience)
	case err != nil:
		return err
	}
	for _, w := range c.workers {
		c.screen.happened(fmt.Sprintf("worker %d (process %d) reads partitions %s", w.number, w.pid(), numbers(readBy(shared, w))))
	}
	return nil
}

// killOne kills a worker, and waits until the others have what it read.
func (c *crew) killOne(ctx context.Context) error {
	if err := c.kill(ctx); err != nil {
		return err
	}
	return c.takeOver(ctx)
}

func (c *crew) kill(ctx context.Context) error {
	w := c.workers[1]
	readers, err := c.readers(ctx)
	if err != nil {
		return err
	}
	if err := w.kill(); err != nil {
		return fmt.Errorf("kill worker %d: %w", w.number, err)
	}
	c.killed, c.killedAt, c.orphaned = w, time.Now(), readBy(readers, w)
	c.screen.happened(fmt.Sprintf("worker %d (process %d) is killed; nobody else may read partitions %s until its leases end, %s after it renewed them last",
		w.number, w.pid(), numbers(c.orphaned), leaseTTL))
	return nil
}

// takeOver waits until others read what the killed worker read, and says who reads
// what, and how long that took.
func (c *crew) takeOver(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, takeOverPatience)
	defer cancel()
	taken := map[int]int{}
	err := c.await(ctx, func(readers map[int]int) bool {
		for _, w := range c.workers {
			var fresh []int
			for _, p := range readBy(readers, w) {
				if w != c.killed && slices.Contains(c.orphaned, p) && taken[p] == 0 {
					taken[p] = w.number
					fresh = append(fresh, p)
				}
			}
			if len(fresh) > 0 {
				c.screen.happened(fmt.Sprintf("worker %d took over partitions %s, %.1f s after the kill", w.number, numbers(fresh), time.Since(c.killedAt).Seconds()))
			}
		}
		return len(taken) == len(c.orphaned)
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("nobody took over what worker %d read within %s", c.killed.number, takeOverPatience)
	}
	return err
}

func readBy(readers map[int]int, w *worker) []int {
	var list []int
	for partition, pid := range readers {
		if pid == w.pid() {
			list = append(list, partition)
		}
	}
	slices.Sort(list)
	return list
}

// numbers writes partitions for people.
func numbers(list []int) string {
	if len(list) == 0 {
		return "none"
	}
	return strings.Trim(fmt.Sprint(list), "[]")
}

// dead counts the dead letters.
func (c *crew) dead(ctx context.Context) (int, error) {
	if err := context.Cause(c.ctx); err != nil {
		return 0, err
	}
	stats, err := c.store.DeliveryStats(ctx)
	return stats.States[observer.Dead], err
}

// stop ends all workers, and closes the state.
func (c *crew) stop() error {
	errs := make([]error, len(c.workers)+1)
	for _, w := range c.workers {
		w.leaving.Store(true)
		_ = w.stdin.Close() // all finish at the same time
	}
	for i, w := range c.workers {
		errs[i] = w.stop()
	}
	errs[len(c.workers)] = c.store.Close()
	c.fail(nil)
	return errors.Join(errs...)
}

// outage is what the killed worker left.
func (c *crew) outage() outage {
	if c.killed == nil {
		return outage{}
	}
	return outage{worker: c.killed.number, at: c.killedAt, partitions: c.orphaned}
}
