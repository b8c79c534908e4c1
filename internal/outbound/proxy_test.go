package outbound

import (
	"bufio"
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

const publicAddress = "93.184.216.34"

// connectProxy is a proxy that is asked for addresses of the internet and leads
// to receivers on this machine.
type connectProxy struct {
	url *url.URL
	// answer decides about one CONNECT: the address to lead to, or what to answer
	// instead.
	answer func(asked string) (to, refusal string)

	mu    sync.Mutex
	asked []string
	users []string
}

func newProxy(t *testing.T, answer func(asked string) (to, refusal string)) *connectProxy {
	t.Helper()
	p := &connectProxy{answer: answer}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.url = &url.URL{Scheme: "http", Host: l.Addr().String(), User: url.UserPassword("ann", "s3cret-proxy")}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return p
}

func (p *connectProxy) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r := bufio.NewReader(conn)
	req, err := http.ReadRequest(r)
	if err != nil || req.Method != http.MethodConnect {
		return
	}
	p.mu.Lock()
	p.asked, p.users = append(p.asked, req.RequestURI), append(p.users, req.Header.Get("Proxy-Authorization"))
	p.mu.Unlock()
	to, refusal := p.answer(req.RequestURI)
	if to == "" {
		_, _ = io.WriteString(conn, refusal)
		return
	}
	receiver, err := net.Dial("tcp", to) //nolint:noctx // it ends with the test's connections
	if err != nil {
		return
	}
	defer func() { _ = receiver.Close() }()
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n"+refusal)
	var wg sync.WaitGroup
	wg.Go(func() { _, _ = io.Copy(receiver, r); _ = receiver.Close() })
	wg.Go(func() { _, _ = io.Copy(conn, receiver); _ = conn.Close() })
	wg.Wait()
}

func (p *connectProxy) targets() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

// behind is a network with the proxy, on which every name leads to addrs.
func behind(t *testing.T, p *connectProxy, cfg Config, addrs ...string) *Network {
	t.Helper()
	cfg.Proxy = p.url
	n := New(cfg)
	n.dialer.Resolver = nameServer(t, func(int) []netip.Addr {
		var list []netip.Addr
		for _, a := range addrs {
			list = append(list, netip.MustParseAddr(a))
		}
		return list
	})
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	return n
}

func TestProxyIsToldTheJudgedAddress(t *testing.T) {
	t.Parallel()
	var host atomic.Value
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { host.Store(r.Host) })
	plain, encrypted := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	t.Cleanup(plain.Close)
	t.Cleanup(encrypted.Close)
	roots := x509.NewCertPool()
	roots.AddCert(encrypted.Certificate())
	p := newProxy(t, func(asked string) (string, string) {
		if strings.HasSuffix(asked, ":443") {
			return encrypted.Listener.Addr().String(), ""
		}
		return plain.Listener.Addr().String(), ""
	})
	n := behind(t, p, Config{RootCAs: roots}, publicAddress)
	for _, to := range []string{"http://example.com/x", "https://example.com/x", "http://example.com:8080/x"} { // the certificate is for example.com
		result, err := post(t.Context(), t, n, to, observer.Redactor{})
		if err != nil || result.Status != 200 || !strings.HasPrefix(host.Load().(string), "example.com") {
			t.Errorf("%s: %+v, %v", to, result, err)
		}
	}
	want := []string{publicAddress + ":80", publicAddress + ":443", publicAddress + ":8080"}
	if got := p.targets(); !slices.Equal(got, want) {
		t.Errorf("the proxy was asked for %v, want %v", got, want)
	}
	if got := p.users[0]; got != "Basic YW5uOnMzY3JldC1wcm94eQ==" {
		t.Errorf("Proxy-Authorization %q", got)
	}
}

func TestProxyReachesNothingThatIsRefused(t *testing.T) {
	t.Parallel()
	p := newProxy(t, func(string) (string, string) { return "", "" })
	for name, tt := range map[string]struct {
		url   string
		addrs []string
		ports []uint16
	}{
		"a private name":         {"http://intern.example", []string{"10.0.0.1"}, nil},
		"a metadata name":        {"http://intern.example", []string{"169.254.169.254"}, nil},
		"a private address":      {"http://10.0.0.1", nil, nil},
		"loopback":               {"http://127.0.0.1:8080", nil, nil},
		"loopback of IPv6":       {"http://[::1]", nil, nil},
		"a number":               {"http://2130706433", []string{publicAddress}, nil},
		"NAT64":                  {"http://[64:ff9b::a00:1]", nil, nil},
		"another port":           {"http://example.com:25", []string{publicAddress}, []uint16{80, 443}},
		"the proxy's own server": {p.url.Scheme + "://" + p.url.Host, nil, nil},
	} {
		n := behind(t, p, Config{Ports: tt.ports}, tt.addrs...)
		_, err := post(t.Context(), t, n, tt.url, observer.Redactor{})
		if !isRefusal(err) || observer.Retryable(err) {
			t.Errorf("%s: %v, want a permanent refusal", name, err)
		}
	}
	if asked := p.targets(); len(asked) != 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
}

// 127.0.0.1 of the proxy is not ours, and neither is its 10.0.0.1.
func TestWhatIsAllowedIsReachedWithoutTheProxy(t *testing.T) {
	t.Parallel()
	receiver := serve(t, func(http.ResponseWriter, *http.Request) {})
	p := newProxy(t, func(string) (string, string) { return "", "" })
	n := behind(t, p, Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	if _, err := post(t.Context(), t, n, receiver, observer.Redactor{}); err != nil {
		t.Error(err)
	}
	if asked := p.targets(); len(asked) != 0 {
		t.Errorf("the proxy was asked for %v", asked)
	}
}

func TestProxyThatFailsIsTransientWithAKnownOutcome(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ answer, want string }{
		"refuses":            {"HTTP/1.1 403 Forbidden\r\n\r\nYW5uOnMzY3JldC1wcm94eQ== s3cret-proxy", "status 403"},
		"wants a password":   {"HTTP/1.1 407 s3cret-proxy\r\n\r\n", "status 407 Proxy Authentication Required"},
		"cannot connect":     {"HTTP/1.1 502 Bad Gateway\r\n\r\n", "status 502"},
		"accepts and waits":  {"HTTP/1.1 202 Accepted\r\n\r\n", "status 202"},
		"speaks another":     {"220 s3cret-proxy\r\n", "cannot be read"},
		"hangs up":           {"", "cannot be read"},
		"floods its headers": {"HTTP/1.1 200 OK\r\n" + strings.Repeat("X-A: s3cret-proxy\r\n", 10000), "cannot be read"},
	} {
		p := newProxy(t, func(string) (string, string) { return "", tt.answer })
		_, err := post(t.Context(), t, behind(t, p, Config{}, publicAddress), "https://example.com", observer.Redactor{})
		if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want a transient error with %q", name, err, tt.want)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), "through the proxy http://"+p.url.Host)) {
			t.Errorf("%s: %q", name, err)
		}
	}
	away := &connectProxy{url: &url.URL{Scheme: "http", Host: closed(t)}}
	_, err := post(t.Context(), t, behind(t, away, Config{}, publicAddress), "http://example.com", observer.Redactor{})
	if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("no proxy: %v", err)
	}
}

func TestSilentProxyIsGivenUp(t *testing.T) {
	t.Parallel()
	still, got := silent(t)
	p := &connectProxy{url: &url.URL{Scheme: "http", Host: still}}
	_, err := behind(t, p, Config{DialTimeout: 50 * time.Millisecond}, publicAddress).DialContext(t.Context(), "tcp", "example.com:80")
	if !errors.Is(err, context.DeadlineExceeded) || !observer.Retryable(err) {
		t.Errorf("%v, want the timeout of the dial", err)
	}
	<-got
	other, heard := silent(t)
	p = &connectProxy{url: &url.URL{Scheme: "http", Host: other}}
	if _, err = behind(t, p, Config{}, publicAddress).DialContext(until(t, heard), "tcp", "example.com:80"); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want the end of the context", err)
	}
}

func TestProxyIsAskedForEachAddress(t *testing.T) {
	t.Parallel()
	receiver := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(receiver.Close)
	p := newProxy(t, func(asked string) (string, string) {
		if strings.HasPrefix(asked, publicAddress) {
			return "", "HTTP/1.1 504 Gateway Timeout\r\n\r\n"
		}
		return receiver.Listener.Addr().String(), ""
	})
	n := behind(t, p, Config{}, "10.0.0.1", publicAddress, "93.184.216.35")
	if result, _ := post(t.Context(), t, n, "http://example.com", observer.Redactor{}); result.Status != 404 {
		t.Errorf("%+v, want the receiver behind the second address", result)
	}
	if want := []string{publicAddress + ":80", "93.184.216.35:80"}; !slices.Equal(p.targets(), want) {
		t.Errorf("the proxy was asked for %v, want %v", p.targets(), want)
	}
}

// A mail server speaks first, and its words may come together with the proxy's.
func TestTunnelKeepsWhatCameEarlyAndNamesTheReceiver(t *testing.T) {
	t.Parallel()
	receiver := accept(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "later"); _ = conn.Close() })
	p := newProxy(t, func(string) (string, string) { return receiver, "early, " })
	conn, err := behind(t, p, Config{}, publicAddress).DialContext(t.Context(), "tcp", "mail.example:25")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if heard, err := io.ReadAll(conn); err != nil || string(heard) != "early, later" {
		t.Errorf("heard %q, %v", heard, err)
	}
	if at := conn.RemoteAddr().String(); at != publicAddress+":25" {
		t.Errorf("the other end is %s: a password would be thought to stay on this machine", at)
	}
}

func TestProxyOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, r.RequestURI, http.StatusForbidden)
	}))
	server.Config.ErrorLog = discard()
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	for name, tt := range map[string]struct {
		roots *x509.CertPool
		want  string
	}{"trusted": {roots, "status 403"}, "not trusted": {nil, "certificate"}} {
		_, err = behind(t, &connectProxy{url: at}, Config{RootCAs: tt.roots}, publicAddress).DialContext(t.Context(), "tcp", "example.com:80")
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
}

func TestProxyOfTheEnvironmentIsIgnored(t *testing.T) { //nolint:paralleltest // It sets the environment.
	address, _ := forbidden(t, "127.0.0.1:0")
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"} {
		t.Setenv(name, "http://"+address)
	}
	n := loopback(t)
	n.dialer.Resolver = nameServer(t, func(int) []netip.Addr { return nil })
	if _, err := post(t.Context(), t, n, "http://example.com", observer.Redactor{}); err == nil || !strings.Contains(err.Error(), "lookup example.com") {
		t.Errorf("%v, want that it asks for the name itself", err)
	}
}
