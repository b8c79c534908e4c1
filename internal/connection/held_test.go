package connection_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/fraiseql/observer/internal/connection"
)

// client is something that is open until it is closed, once.
type client struct{ closed, broken bool }

type fixture struct {
	t      *testing.T
	opened []*client
	fail   error
	slow   chan struct{}
}

func (f *fixture) held() *connection.Held[*client] {
	return connection.New(f.open, f.close, func(c *client) bool { return !c.broken })
}

func (f *fixture) open(ctx context.Context) (*client, error) {
	if f.slow != nil {
		select {
		case <-f.slow:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if f.fail != nil {
		return nil, f.fail
	}
	c := &client{}
	f.opened = append(f.opened, c)
	return c, nil
}

func (f *fixture) close(c *client) {
	if c.closed {
		f.t.Error("closed twice")
	}
	c.closed = true
}

func (f *fixture) use(h *connection.Held[*client]) (*client, func()) {
	f.t.Helper()
	c, done, err := h.Use(f.t.Context())
	if err != nil {
		f.t.Fatal(err)
	}
	if c.closed {
		f.t.Error("a closed client is used")
	}
	return c, done
}

func TestClientIsKept(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	h := f.held()
	for range 3 {
		_, done := f.use(h)
		done()
	}
	if len(f.opened) != 1 || f.opened[0].closed {
		t.Errorf("opened %d", len(f.opened))
	}
	if err := h.Close(); err != nil || !f.opened[0].closed {
		t.Errorf("not closed: %v", err)
	}
	if err := h.Close(); err != nil {
		t.Error(err)
	}
}

func TestCloseWaitsForTheLastUser(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	h := f.held()
	c, first := f.use(h)
	_, second := f.use(h)
	_ = h.Close()
	first()
	if c.closed {
		t.Fatal("closed while it is used")
	}
	second()
	if !c.closed {
		t.Error("the last user did not close it")
	}
}

func TestWhoComesLateIsServedAndLeavesNothing(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	h := f.held()
	_ = h.Close()
	one, first := f.use(h)
	other, second := f.use(h)
	if one != other {
		t.Error("two at the same time have two clients")
	}
	first()
	second()
	_, third := f.use(h)
	third()
	for i, c := range f.opened {
		if !c.closed {
			t.Errorf("client %d of %d was left open", i, len(f.opened))
		}
	}
}

func TestBrokenClientIsReplaced(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t}
	h := f.held()
	broken, first := f.use(h)
	broken.broken = true
	next, second := f.use(h)
	if next == broken || broken.closed {
		t.Error("the broken client was used again, or closed under its user")
	}
	first()
	second()
	if !broken.closed || next.closed {
		t.Errorf("closed: broken %v, next %v", broken.closed, next.closed)
	}
	next.broken = true
	if _, done := f.use(h); !next.closed {
		done()
		t.Error("a broken client that nobody used was not closed")
	}
}

func TestFailureToOpenIsNotKept(t *testing.T) {
	t.Parallel()
	f := &fixture{t: t, fail: errors.New("away")}
	h := f.held()
	if _, _, err := h.Use(t.Context()); !errors.Is(err, f.fail) {
		t.Errorf("error %v", err)
	}
	f.fail = nil
	_, done := f.use(h)
	done()
}

func TestManyOpenOne(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fixture{t: t, slow: make(chan struct{})}
		h := f.held()
		hurried, cancel := context.WithCancel(t.Context())
		var first, waiting error
		var users sync.WaitGroup
		users.Go(func() { _, _, first = h.Use(hurried) })
		synctest.Wait()
		users.Go(func() { _, _, waiting = h.Use(hurried) })
		for range 5 {
			users.Go(func() { _, done := f.use(h); done() })
		}
		synctest.Wait()
		cancel() // of the one that opens, and one that waits: the others go on
		synctest.Wait()
		close(f.slow)
		users.Wait()
		if !errors.Is(first, context.Canceled) || !errors.Is(waiting, context.Canceled) {
			t.Errorf("errors %v and %v", first, waiting)
		}
		if len(f.opened) != 1 {
			t.Errorf("opened %d", len(f.opened))
		}
	})
}
