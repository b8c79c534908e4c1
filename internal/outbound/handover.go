package outbound

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptrace"
	"sync/atomic"
)

// countedConn counts the writes that put something on the wire.
type countedConn struct {
	net.Conn
	writes atomic.Int64
}

// Write counts before it writes: whoever looks meanwhile must not take a
// request for unsent that is on its way.
func (c *countedConn) Write(p []byte) (int, error) {
	c.writes.Add(1)
	n, err := c.Conn.Write(p)
	if n == 0 && err != nil {
		c.writes.Add(-1)
	}
	return n, err
}

// handover finds out whether anything of one request was written. Asking the
// connection is exact where hooks of net/http are not: they speak of buffers,
// and of a write that failed they do not say how much of it left. It also costs
// one hook only.
//
// What counts as written is any byte: a receiver may act on the headers alone,
// and how much of a body the network took, nobody tells. Writes of the TLS
// handshake come before the connection is handed out and do not count. On an
// HTTP/2 connection the writes of other requests count too, so there it errs on
// the side of having written.
type handover struct {
	trace  httptrace.ClientTrace
	conn   *countedConn // nil before there is one
	before int64        // its writes when the request got it
	begun  bool         // written to an earlier or an unknown connection
}

// watch is ctx for the one request that h is about.
func (h *handover) watch(ctx context.Context) context.Context {
	h.trace.GotConn = h.gotConn
	return httptrace.WithClientTrace(ctx, &h.trace)
}

// gotConn is called again when net/http takes another connection because the
// first turned out to be closed.
func (h *handover) gotConn(info httptrace.GotConnInfo) {
	h.begun = h.written()
	if h.conn = counted(info.Conn); h.conn == nil {
		h.begun = true // a connection of somebody else's dialer
		return
	}
	h.before = h.conn.writes.Load()
}

// written reports whether a byte of the request may be on the wire. It is asked
// when the exchange is over.
func (h *handover) written() bool {
	return h.begun || h.conn != nil && h.conn.writes.Load() != h.before
}

func counted(conn net.Conn) *countedConn {
	if encrypted, ok := conn.(*tls.Conn); ok {
		conn = encrypted.NetConn()
	}
	c, _ := conn.(*countedConn)
	return c
}
