package testenv

import (
	"bytes"
	"context"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy stands between a client and a server and can make the network between
// them fail at a certain moment. Its methods may be called concurrently.
type Proxy struct {
	// Address is where it listens, as host:port.
	Address string

	target   string
	listener net.Listener

	mu     sync.Mutex
	marker []byte // nil: nothing happens
	mute   bool   // what happens: silence, else the end of the connection
	conns  map[net.Conn]bool
	links  map[*link]bool
	closed bool
}

// NewProxy starts a proxy to a TCP address. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	var config net.ListenConfig
	listener, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{Address: listener.Addr().String(), target: target, listener: listener, conns: map[net.Conn]bool{}, links: map[*link]bool{}}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var serving sync.WaitGroup
	serving.Go(func() { p.accept(ctx, &serving) })
	t.Cleanup(func() {
		cancel()
		p.Away()
		serving.Wait()
	})
	return p
}

// HangUp ends a connection as soon as its client has sent marker, which does not
// reach the server.
func (p *Proxy) HangUp(marker string) { p.set(marker, false) }

// Mute lets nothing through any more, in either direction, once the client of a
// connection has sent marker.
func (p *Proxy) Mute(marker string) { p.set(marker, true) }

// Pass lets everything through again, on connections that are still open.
func (p *Proxy) Pass() { p.set("", false) }

// Cut silences the connections that there are, for good: nothing goes through any
// more, and no end learns that the other one is gone. New ones pass. So does a
// proxy on the way whose other side died: it takes what is sent to it.
func (p *Proxy) Cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		l.cut = true
	}
}

// Lose is Cut by something that takes nothing, such as a firewall that forgot the
// connections: the packets of clients get lost, and are not acknowledged. The test
// is skipped where the system has no way to do that.
func (p *Proxy) Lose(t testing.TB) {
	t.Helper()
	p.Cut()
	p.mu.Lock()
	defer p.mu.Unlock()
	for l := range p.links {
		if err := dropPackets(l.client); err != nil {
			t.Skipf("packets cannot be dropped here: %v", err)
		}
	}
}

// Away ends every connection and refuses new ones, for good.
func (p *Proxy) Away() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	_ = p.listener.Close()
	for conn := range p.conns {
		_ = conn.Close()
	}
}

func (p *Proxy) set(marker string, mute bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.marker, p.mute = []byte(marker), mute
}

func (p *Proxy) accept(ctx context.Context, serving *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		var dialer net.Dialer
		server, err := dialer.DialContext(ctx, "tcp", p.target)
		if err != nil {
			_ = client.Close()
			continue
		}
		link := &link{proxy: p, client: client, server: server}
		if !p.keep(link) {
			return
		}
		serving.Go(link.requests)
		serving.Go(link.answers)
	}
}

// keep remembers a connection, unless the proxy is going.
func (p *Proxy) keep(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.links[l] = true
	for _, conn := range []net.Conn{l.client, l.server} {
		if p.closed {
			_ = conn.Close()
		} else {
			p.conns[conn] = true
		}
	}
	return !p.closed
}

// link is one connection through the proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	seen           []byte // the end of what the client sent
	muted, cut     bool   // under the proxy's mu
}

func (l *link) requests() {
	defer l.end(l.client, l.server)
	buffer := make([]byte, 32<<10)
	for {
		n, err := l.client.Read(buffer)
		if err != nil {
			return
		}
		through, hangUp := l.judge(buffer[:n])
		if hangUp {
			return
		}
		if through {
			if _, err := l.server.Write(buffer[:n]); err != nil {
				return
			}
		}
	}
}

// judge says what becomes of what the client sent. A marker may come in pieces.
func (l *link) judge(sent []byte) (through, hangUp bool) {
	p := l.proxy
	p.mu.Lock()
	defer p.mu.Unlock()
	l.seen = append(l.seen, sent...)
	found := len(p.marker) > 0 && bytes.Contains(l.seen, p.marker)
	if keep := max(len(p.marker), 1) - 1; len(l.seen) > keep {
		l.seen = append([]byte(nil), l.seen[len(l.seen)-keep:]...)
	}
	if found {
		l.muted = p.mute
	}
	return !l.muted && !l.cut, found && !p.mute && !l.cut
}

func (l *link) answers() {
	defer l.end(l.server, l.client)
	buffer := make([]byte, 32<<10)
	for {
		n, err := l.server.Read(buffer)
		if err != nil {
			break
		}
		l.proxy.mu.Lock()
		muted := l.muted || l.cut
		l.proxy.mu.Unlock()
		if muted {
			_, _ = io.Copy(io.Discard, l.server)
			break
		}
		if _, err := l.client.Write(buffer[:n]); err != nil {
			break
		}
	}
}

// end ends both sides, of which one ended. When the connection was cut the other
// one does not learn of it.
func (l *link) end(ended, other net.Conn) {
	l.proxy.mu.Lock()
	defer l.proxy.mu.Unlock()
	_ = ended.Close()
	delete(l.proxy.conns, ended)
	if ended == l.client || !l.cut {
		delete(l.proxy.links, l)
	}
	if !l.cut {
		_ = other.Close()
		delete(l.proxy.conns, other)
	}
}
