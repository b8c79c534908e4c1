// Package connection holds what an action keeps open between deliveries, such as
// a pool of connections, and closes it when the action is no longer needed.
package connection

import (
	"context"
	"sync"
)

// Held opens a client when it is first used and keeps it for the next use. It is
// made with [New] and safe for concurrent use.
//
// [Held.Close] may come while deliveries still use the client, or are about to:
// a configuration is replaced under them. Then the last of them closes it, and
// whoever comes afterwards gets a client for as long as somebody uses it.
type Held[T any] struct {
	open  func(ctx context.Context) (T, error)
	close func(T)
	alive func(T) bool

	opening chan struct{} // held while a client is opened, so that one is
	mu      sync.Mutex
	current *shared[T] // nil when there is none
	retired bool
}

// shared is a client and how many use it.
type shared[T any] struct {
	client T
	users  int
	kept   bool // whether it is for the next use, too
}

// New makes a holder. open makes a client, under the context of the first who
// uses it; close ends one that nobody uses. alive says whether one can be used
// again; nil means always.
func New[T any](open func(ctx context.Context) (T, error), closing func(T), alive func(T) bool) *Held[T] {
	if alive == nil {
		alive = func(T) bool { return true }
	}
	return &Held[T]{open: open, close: closing, alive: alive, opening: make(chan struct{}, 1)}
}

// Use returns the client, and what must be called when it is no longer used. An
// error is that of opening it, or of ctx.
func (h *Held[T]) Use(ctx context.Context) (client T, done func(), err error) {
	if s := h.take(); s != nil {
		return s.client, func() { h.leave(s) }, nil
	}
	select {
	case h.opening <- struct{}{}:
		defer func() { <-h.opening }()
	case <-ctx.Done():
		return client, nil, ctx.Err()
	}
	if s := h.take(); s != nil { // somebody else opened it meanwhile
		return s.client, func() { h.leave(s) }, nil
	}
	if client, err = h.open(ctx); err != nil {
		return client, nil, err
	}
	s := h.keep(client)
	return client, func() { h.leave(s) }, nil
}

// take is the client there is, if it can be used.
func (h *Held[T]) take() *shared[T] {
	h.mu.Lock()
	s := h.current
	if s != nil && h.alive(s.client) {
		s.users++
		h.mu.Unlock()
		return s
	}
	unused := h.drop()
	h.mu.Unlock()
	if unused {
		h.close(s.client)
	}
	return nil
}

func (h *Held[T]) keep(client T) *shared[T] {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := &shared[T]{client: client, users: 1, kept: !h.retired}
	h.current = s
	return s
}

func (h *Held[T]) leave(s *shared[T]) {
	h.mu.Lock()
	s.users--
	last := s.users == 0 && !s.kept
	if last && h.current == s {
		h.current = nil
	}
	h.mu.Unlock()
	if last {
		h.close(s.client) // may take a moment, for which nobody else waits
	}
}

// drop gives up the present client, if there is one, and reports whether it is
// to be closed now: nobody uses it. The caller holds mu.
func (h *Held[T]) drop() bool {
	s := h.current
	h.current = nil
	if s == nil {
		return false
	}
	s.kept = false
	return s.users == 0
}

// Close closes the client when nobody uses it any more, which may be at once.
// It is an [io.Closer] whose error is always nil.
func (h *Held[T]) Close() error {
	h.mu.Lock()
	h.retired = true
	s := h.current
	if s != nil && s.users > 0 {
		s.kept = false // and the last user closes it
		s = nil
	}
	if s != nil {
		h.drop()
	}
	h.mu.Unlock()
	if s != nil {
		h.close(s.client)
	}
	return nil
}
