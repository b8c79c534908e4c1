package redis

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/fraiseql/observer/internal/backoff"
)

// slot is one that an attempt of this process holds, or that it could not free.
type slot struct {
	key string
	// entered: the server has it, or may have it.
	entered bool
	// lost is when it was freed and the server could not be told, zero while it is
	// held.
	lost time.Time
}

// hold has the slot of g kept until it is freed.
func (l *Limiter) hold(ctx context.Context, g Grant, entered bool) {
	if g.slot == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots[g.slot] = &slot{key: g.key, entered: entered}
	if l.running || l.closed {
		return
	}
	l.running = true
	l.keeper.Go(func() { l.keep(context.WithoutCancel(ctx)) })
}

// free has a slot no longer kept, and reports whether the server may have it.
func (l *Limiter) free(name string) (entered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.slots[name]
	delete(l.slots, name)
	return s != nil && s.entered
}

// lose has the server told later that a slot is free.
func (l *Limiter) lose(g Grant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots[g.slot] = &slot{key: g.key, entered: true, lost: time.Now()}
}

// keep renews the leases of the slots until there are none.
func (l *Limiter) keep(ctx context.Context) {
	for backoff.Wait(ctx, l.ended, l.cfg.Lease/3) {
		if l.idle() {
			return
		}
		_ = l.do(ctx, l.enter) // whoever comes next, or this, tries again
	}
}

// idle ends the keeping when there is nothing to keep. What the server could not
// be told within a lease it has forgotten.
func (l *Limiter) idle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for name, s := range l.slots {
		if !s.lost.IsZero() && time.Since(s.lost) > l.cfg.Lease {
			delete(l.slots, name)
		}
	}
	l.running = len(l.slots) > 0
	return !l.running
}

// enter tells the server which slots this process holds, and which no longer. It
// also finds out whether the server answers.
func (l *Limiter) enter(ctx context.Context, client rueidis.Client) error {
	l.keeping.Lock()
	defer l.keeping.Unlock()
	calls, names := l.toEnter()
	if len(calls) == 0 {
		return client.Do(ctx, client.B().Ping().Build()).Error()
	}
	for _, answer := range l.client.scripts.keep.ExecMulti(ctx, client, calls...) {
		if err := answer.Error(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		switch s := l.slots[name]; {
		case s == nil:
		case s.lost.IsZero():
			s.entered = true
		default:
			delete(l.slots, name)
		}
	}
	return nil
}

// toEnter gives the calls that enter and free slots, one for each endpoint, and
// the names of those slots.
func (l *Limiter) toEnter() (calls []rueidis.LuaExec, names []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	held, lost := map[string][]string{}, map[string][]string{}
	for name, s := range l.slots {
		names = append(names, name)
		if s.lost.IsZero() {
			held[s.key] = append(held[s.key], name)
		} else {
			lost[s.key] = append(lost[s.key], name)
		}
	}
	enter := func(key string) {
		args := append([]string{millis(l.cfg.Lease), strconv.Itoa(len(lost[key]))}, lost[key]...)
		calls = append(calls, rueidis.LuaExec{Keys: []string{slotsOf(key)}, Args: append(args, held[key]...)})
	}
	for key := range held {
		enter(key)
	}
	for key := range lost {
		if held[key] == nil {
			enter(key)
		}
	}
	return calls, names
}

// Close ends the keeping of slots. Those that are held end with their leases.
func (l *Limiter) Close() error {
	l.mu.Lock()
	if !l.closed {
		l.closed = true
		close(l.ended)
	}
	l.mu.Unlock()
	l.keeper.Wait()
	return nil
}
