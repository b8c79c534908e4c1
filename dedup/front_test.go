package dedup_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
	"github.com/fraiseql/observer/store/memory"
)

var (
	errAway   = errors.New("nobody answers")
	errForgot = errors.New("it forgot")
)

// cache is a fast store that may forget, shared by processes.
type cache struct {
	mu     sync.Mutex
	epochs map[string]*memory.Store
	number int
	down   bool
}

func newCache() *cache { return &cache{epochs: map[string]*memory.Store{}} }

// forget loses everything, and setDown lets nobody in.
func (c *cache) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.epochs, func(string, *memory.Store) bool { return true })
}

func (c *cache) setDown(down bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
}

// epoch gives the store of an epoch, if anybody would.
func (c *cache) epoch(name string) (*memory.Store, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch s := c.epochs[name]; {
	case c.down:
		return nil, errAway
	case s == nil:
		return nil, errForgot
	default:
		return s, nil
	}
}

// network is the way of one process to the stores. It may be cut.
type network struct {
	cache *cache
	state observer.DedupStateStore

	mu               sync.Mutex
	noCache, noState bool
	delay, slowCache time.Duration // of every answer, and of those of the cache besides
}

func (n *network) cut(noCache, noState bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.noCache, n.noState = noCache, noState
}

// slow delays what the cache does for the process.
func (n *network) slow(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.slowCache = d
}

// trip takes its time both ways.
func (n *network) trip(ctx context.Context, slow *time.Duration, cut func() bool, call func() error) error {
	n.mu.Lock()
	lost, delay := cut(), n.delay
	if slow != nil {
		delay += *slow
	}
	n.mu.Unlock()
	if lost {
		return errAway
	}
	if !backoff.Wait(ctx, nil, delay) {
		return ctx.Err()
	}
	err := call()
	if !backoff.Wait(ctx, nil, delay/2) {
		return ctx.Err()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if cut() {
		return errAway // the answer is lost
	}
	return err
}

func (n *network) toCache(ctx context.Context, call func() error) error {
	return n.trip(ctx, &n.slowCache, func() bool { return n.noCache }, call)
}

func (n *network) toState(ctx context.Context, call func() error) error {
	return n.trip(ctx, nil, func() bool { return n.noState }, call)
}

// front is the cache as a process reaches it.
type front struct{ n *network }

func (f front) NewEpoch(ctx context.Context) (name string, err error) {
	err = f.n.toCache(ctx, func() error {
		c := f.n.cache
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.down {
			return errAway
		}
		c.number++
		name = fmt.Sprintf("epoch %d", c.number)
		c.epochs[name] = memory.New(memory.Config{})
		return nil
	})
	return name, err
}

func (f front) CheckEpoch(ctx context.Context, name string) error {
	return f.n.toCache(ctx, func() error {
		_, err := f.n.cache.epoch(name)
		return err
	})
}

func (f front) Dedup(epoch string) observer.DedupStore { return epochOf{f.n, epoch} }

type epochOf struct {
	n    *network
	name string
}

func (e epochOf) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (answer observer.DedupAnswer, err error) {
	err = e.n.toCache(ctx, func() error {
		s, err := e.n.cache.epoch(e.name)
		if err != nil {
			return err
		}
		answer, err = s.ClaimDedup(context.WithoutCancel(ctx), c, lease)
		return err
	})
	return answer, err
}

func (e epochOf) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	return e.n.toCache(ctx, func() error {
		s, err := e.n.cache.epoch(e.name)
		if err != nil {
			return err
		}
		return s.FinishDedup(context.WithoutCancel(ctx), marks...)
	})
}

func (e epochOf) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	return e.n.toCache(ctx, func() error {
		s, err := e.n.cache.epoch(e.name)
		if err != nil {
			return err
		}
		return s.ReleaseDedup(context.WithoutCancel(ctx), c)
	})
}

// state is the state store as a process reaches it.
type state struct {
	observer.DedupStateStore
	n *network
}

func (s state) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (answer observer.DedupAnswer, err error) {
	err = s.n.toState(ctx, func() (err error) {
		answer, err = s.DedupStateStore.ClaimDedup(ctx, c, lease)
		return err
	})
	return answer, err
}

func (s state) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	return s.n.toState(ctx, func() error { return s.DedupStateStore.FinishDedup(ctx, marks...) })
}

func (s state) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	return s.n.toState(ctx, func() error { return s.DedupStateStore.ReleaseDedup(ctx, c) })
}

func (s state) DedupView(ctx context.Context) (v observer.DedupView, err error) {
	err = s.n.toState(ctx, func() (err error) {
		v, err = s.DedupStateStore.DedupView(ctx)
		return err
	})
	return v, err
}

func (s state) ChangeDedupView(ctx context.Context, from int64, place observer.DedupPlace, epoch string) (changed bool, err error) {
	err = s.n.toState(ctx, func() (err error) {
		changed, err = s.DedupStateStore.ChangeDedupView(ctx, from, place, epoch)
		return err
	})
	return changed, err
}

func (s state) HoldDedupSession(ctx context.Context, session string, adopted int64, lease time.Duration) error {
	return s.n.toState(ctx, func() error { return s.DedupStateStore.HoldDedupSession(ctx, session, adopted, lease) })
}

func (s state) EndDedupSession(ctx context.Context, session string) error {
	return s.n.toState(ctx, func() error { return s.DedupStateStore.EndDedupSession(ctx, session) })
}

func (s state) DedupMarks(ctx context.Context, after string, limit int) (marks []observer.DedupMark, err error) {
	err = s.n.toState(ctx, func() (err error) {
		marks, err = s.DedupStateStore.DedupMarks(ctx, after, limit)
		return err
	})
	return marks, err
}
