package connection

import (
	"context"
	"net"
	"sync"
)

// Dial connects to a server.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Tracker dials and knows the connections that are open, so that they can be
// ended under a client that waits too long for its server. It is made with
// [NewTracker] and safe for concurrent use.
type Tracker struct {
	dial Dial

	mu    sync.Mutex
	conns map[*trackedConn]bool
}

// NewTracker makes a tracker that connects by dial.
func NewTracker(dial Dial) *Tracker {
	return &Tracker{dial: dial, conns: map[*trackedConn]bool{}}
}

// DialContext connects.
func (t *Tracker) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := t.dial(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c := &trackedConn{Conn: conn, tracker: t}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = true
	return c, nil
}

// Cut ends every connection that is open.
func (t *Tracker) Cut() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.conns {
		_ = c.Conn.Close() // whoever uses it sees that
	}
}

type trackedConn struct {
	net.Conn
	tracker *Tracker
}

// Close closes the connection.
func (c *trackedConn) Close() error {
	c.tracker.mu.Lock()
	delete(c.tracker.conns, c)
	c.tracker.mu.Unlock()
	return c.Conn.Close()
}
