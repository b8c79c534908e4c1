package postgres_test

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres"
)

// proxy stands between a source and its server. It counts what the server is
// asked, and can stop forwarding without closing anything.
type proxy struct {
	listener net.Listener
	server   string
	asked    atomic.Int64
	last     atomic.Int64 // of what is asked, when it is not 0: it and what follows are not forwarded

	mu     sync.Mutex
	frozen chan struct{} // closed while traffic flows
	conns  []net.Conn
}

func newProxy(t testing.TB, server string) *proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: l, server: server, frozen: make(chan struct{})}
	close(p.frozen)
	var wg sync.WaitGroup
	wg.Go(func() { p.accept(&wg) })
	t.Cleanup(func() {
		p.thaw()
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		wg.Wait()
	})
	return p
}

func (p *proxy) accept(wg *sync.WaitGroup) {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server) //nolint:noctx // to loopback
		if err != nil {
			_ = client.Close()
			continue
		}
		p.mu.Lock()
		p.conns = append(p.conns, client, server)
		p.mu.Unlock()
		wg.Go(func() { p.ask(server, client) })
		wg.Go(func() { p.answer(client, server) })
	}
}

// ask forwards what a client sends, message by message.
func (p *proxy) ask(server, client net.Conn) {
	defer func() { _ = server.Close() }()
	from := bufio.NewReader(client)
	head := 4 // the first message has no type
	for {
		b := make([]byte, head)
		if _, err := io.ReadFull(from, b); err != nil {
			return
		}
		rest := make([]byte, int(binary.BigEndian.Uint32(b[head-4:]))-4)
		if _, err := io.ReadFull(from, rest); err != nil {
			return
		}
		if head == 5 && (b[0] == 'Q' || b[0] == 'S') {
			if p.asked.Add(1) == p.last.Load() {
				p.freeze()
			}
		}
		head = 5
		p.flow()
		if _, err := server.Write(append(b, rest...)); err != nil {
			return
		}
	}
}

func (p *proxy) answer(client, server net.Conn) {
	defer func() { _ = client.Close() }()
	b := make([]byte, 1<<16)
	for {
		n, err := server.Read(b)
		if err != nil {
			return
		}
		p.flow()
		if _, err := client.Write(b[:n]); err != nil {
			return
		}
	}
}

// flow waits while traffic is frozen.
func (p *proxy) flow() {
	p.mu.Lock()
	c := p.frozen
	p.mu.Unlock()
	<-c
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen = make(chan struct{})
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// rate is how often the server is asked in a second.
func (p *proxy) rate(t testing.TB, during time.Duration) float64 {
	t.Helper()
	before, start := p.asked.Load(), time.Now()
	wait(t, during)
	return float64(p.asked.Load()-before) / time.Since(start).Seconds()
}

// through is a configuration that reaches the database over a new proxy.
func (d *database) through(t testing.TB) (postgres.Config, *proxy) {
	t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		t.Fatal(err)
	}
	p := newProxy(t, u.Host)
	u.Host = p.listener.Addr().String()
	query := u.Query()
	query.Set("sslmode", "disable")
	u.RawQuery = query.Encode()
	cfg := d.config()
	cfg.URL = observer.NewSecret(u.String())
	return cfg, p
}
