package postgres

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// A connection on which nothing is under way, or whose call the server has taken,
// is probed. One whose other end is gone without a word is ended by the system after
// a few probes in vain; a server that works on a long statement acknowledges them.
// They also keep firewalls from forgetting connections that nobody uses. There is no
// limit for what was sent and not acknowledged, such as TCP_USER_TIMEOUT: it would end
// the connection of a server that waits for a lock, too, and meanwhile takes no more
// of what it is sent.
const (
	probeAfter    = 3 * time.Second
	probeInterval = time.Second
	probes        = 3
)

// errSilent is what waited for an answer when others turned out to be dead.
var errSilent = errors.New("an answer got lost")

// dialer makes the connections of the network.
func dialer() *net.Dialer {
	return &net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probes}}
}

// dialShort makes a connection that ends after a time.
func dialShort(ctx context.Context, network, address string, limit time.Duration) (net.Conn, error) {
	end := time.Now().Add(limit)
	ctx, cancel := context.WithDeadline(ctx, end)
	defer cancel()
	conn, err := dialer().DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(end)
}

// wireOf is the wire of a connection, also below TLS.
func wireOf(conn net.Conn) *wire {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	w, _ := conn.(*wire)
	return w
}

// wire is a connection of the network that knows how long it has been listened to
// in vain.
type wire struct {
	net.Conn
	forget func(*wire)
	// generation is that of the connection, see health, and pid the process that
	// serves it. Both are set before anybody asks.
	generation int64
	pid        uint32

	since     atomic.Int64 // when the Read under way began, in Unix nanoseconds; 0 while there is none
	silent    atomic.Bool  // it ended because nothing came
	abandoned atomic.Bool
}

func (w *wire) Read(into []byte) (int, error) {
	w.since.Store(time.Now().UnixNano())
	n, err := w.Conn.Read(into)
	w.since.Store(0)
	var e net.Error
	if errors.As(err, &e) && e.Timeout() {
		w.silent.Store(true)
	}
	if err != nil && w.abandoned.Load() {
		err = errSilent
	}
	return n, err
}

func (w *wire) Close() error {
	w.forget(w)
	return w.Conn.Close()
}

// listens reports whether somebody has been listening since a time.
func (w *wire) listens(since time.Time) bool {
	began := w.since.Load()
	return began != 0 && began <= since.UnixNano()
}

// abandon ends the wait of somebody who still has been listening since a time.
func (w *wire) abandon(since time.Time) {
	if w.listens(since) {
		w.abandoned.Store(true)
		_ = w.Conn.Close()
	}
}
