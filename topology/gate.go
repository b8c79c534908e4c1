package topology

import (
	"context"
	"errors"
	"sync"

	"github.com/fraiseql/observer"
)

// Gate lets a process read its change logs, or keeps it from that for a while:
// one that may no longer be the only reader must not take in more. What was
// taken in is finished. A new Gate is open; it is safe for concurrent use.
type Gate struct {
	mu sync.Mutex
	// shut and opened are closed in the state that they are called after.
	shut, opened chan struct{}
}

var errShut = errors.New("reading is stopped")

func newGate() *Gate {
	g := &Gate{shut: make(chan struct{}), opened: make(chan struct{})}
	close(g.opened)
	return g
}

// Shut ends every stream and lets none begin until Open.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.shut:
	default:
		close(g.shut)
		g.opened = make(chan struct{})
	}
}

// Open lets streams begin again.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	select {
	case <-g.opened:
	default:
		close(g.opened)
		g.shut = make(chan struct{})
	}
}

func (g *Gate) state() (shut, opened <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.shut, g.opened
}

// gated is a source behind a gate.
type gated struct {
	Source

	gate *Gate
}

// Open waits for the gate.
func (s gated) Open(ctx context.Context, after observer.Position) (observer.Stream, error) {
	_, opened := s.gate.state()
	select {
	case <-opened:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	// Asked before the stream begins: a gate that shuts meanwhile ends it.
	shut, _ := s.gate.state()
	inner, err := s.Source.Open(ctx, after)
	if err != nil {
		return nil, err
	}
	return &gatedStream{Stream: inner, shut: shut}, nil
}

// gatedStream ends when the gate shuts.
type gatedStream struct {
	observer.Stream

	shut <-chan struct{}
	// caller is the context of the last Next, and reading the one made of it
	// that ends with the gate, too: a stream is read with one context.
	caller, reading context.Context
	cancel          context.CancelFunc
}

// Next is interrupted by the gate.
func (s *gatedStream) Next(ctx context.Context) (observer.Message, error) {
	s.follow(ctx)
	msg, err := s.Stream.Next(s.reading)
	select {
	case <-s.shut:
		return observer.Message{}, errShut // the message is read again
	default:
		return msg, err
	}
}

func (s *gatedStream) follow(ctx context.Context) {
	if s.caller == ctx {
		return
	}
	s.end()
	s.caller = ctx
	s.reading, s.cancel = context.WithCancel(ctx)
	go func(ctx context.Context, cancel context.CancelFunc) {
		select {
		case <-s.shut:
			cancel()
		case <-ctx.Done():
		}
	}(s.reading, s.cancel)
}

func (s *gatedStream) end() {
	if s.cancel != nil {
		s.cancel()
	}
}

// Close ends the stream.
func (s *gatedStream) Close(ctx context.Context) error {
	s.end()
	return s.Stream.Close(ctx)
}
