package email

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// The guard of the network stands before mail servers too.
func TestPrivateMailServersAreRefused(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"127.0.0.1", "localhost", "::1", "::ffff:127.0.0.1", "127.1", "2130706433", "0x7f.0.0.1", "169.254.169.254", "10.0.0.25"} {
		m := startServer(t, noTLS, nil)
		server := m.config(noTLS)
		server.Host = host
		a, err := New(simple(), server, outbound.New(outbound.Config{}).DialContext)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Execute(t.Context(), delivery())
		if observer.ReasonOf(err) != observer.ReasonPermanent || !strings.Contains(err.Error(), "address refused") || observer.IsOutcomeUnknown(err) {
			t.Errorf("%s: %v, want a permanent refusal", host, err)
		}
		if got := m.accepted(); len(got) != 0 {
			t.Errorf("%s: %d messages arrived", host, len(got))
		}
	}
}

// mailProxy is an HTTP proxy on this machine that leads every CONNECT to a server.
func mailProxy(t *testing.T, to string) *url.URL {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { tunnel(t, conn, to) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return &url.URL{Scheme: "http", Host: l.Addr().String()}
}

func tunnel(t *testing.T, conn net.Conn, to string) {
	t.Helper()
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	if req, err := http.ReadRequest(r); err != nil || req.Method != http.MethodConnect {
		return
	}
	server, err := new(net.Dialer).DialContext(t.Context(), "tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(server, r); _ = server.Close() })
	_, _ = io.Copy(conn, server)
	_ = conn.Close()
	wg.Wait()
}

func TestMailGoesThroughTheProxy(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, nil)
	server := m.config(noTLS)
	network := outbound.New(outbound.Config{Proxy: mailProxy(t, m.listen.Addr().String())})
	server.Host = "93.184.216.34" // public, so that it is for the proxy
	a, err := New(simple(), server, network.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Execute(t.Context(), delivery()); err != nil || len(m.accepted()) != 1 {
		t.Errorf("%v, and %d messages arrived", err, len(m.accepted()))
	}
}

// A proxy on this machine does not make the mail server one that is: a password
// is said aloud to loopback only.
func TestPasswordIsNotSaidAloudThroughALocalProxy(t *testing.T) {
	t.Parallel()
	m := startServer(t, noTLS, func(m *mailServer) { m.auth = true })
	server := m.config(noTLS)
	network := outbound.New(outbound.Config{Proxy: mailProxy(t, m.listen.Addr().String())})
	server.Host, server.Username, server.Password = "93.184.216.34", "shop", observer.NewSecret(password)
	a, err := New(simple(), server, network.DialContext)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Execute(t.Context(), delivery()); err == nil || len(m.accepted()) != 0 {
		t.Errorf("%v, and %d messages arrived: the password was sent in the clear", err, len(m.accepted()))
	}
}
