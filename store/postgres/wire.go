package postgres

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// A connection whose other end is gone without a word is ended by the system: when
// packets were not acknowledged for silentFor, which are probes while nothing is
// sent. A server that works on a long statement acknowledges both. The probes also
// keep firewalls from forgetting connections that nobody uses.
const (
	silentFor     = 5 * time.Second
	probeAfter    = 3 * time.Second
	probeInterval = time.Second
	probes        = 3
)

// errSilent is what waited for an answer when others turned out to be dead.
var errSilent = errors.New("an answer got lost")

// dialer makes the connections of the network.
func dialer() *net.Dialer {
	return &net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: probeAfter, Interval: probeInterval, Count: probes},
		Control: func(network, _ string, raw syscall.RawConn) error {
			if strings.HasPrefix(network, "tcp") {
				return limitSilence(raw, silentFor)
			}
			return nil
		},
	}
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
