package outbound

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fraiseql/observer"
)

const (
	dialTimeout   = 10 * time.Second
	tlsTimeout    = 10 * time.Second
	keepAlive     = 30 * time.Second
	idleTimeout   = 90 * time.Second
	pingAfter     = 30 * time.Second
	pingTimeout   = 15 * time.Second
	idlePerHost   = 100
	idleTotal     = 1000
	headerTimeout = 5 * time.Minute // a net below the timeout of each action
	headerBytes   = 64 << 10
)

// Config says what actions may reach.
type Config struct {
	// Allow lists private or reserved ranges that may be dialed although the
	// guard would refuse them. Default: none.
	Allow []netip.Prefix
	// RootCAs verify the certificates of HTTPS receivers. Default: those of
	// the system.
	RootCAs *x509.CertPool
}

// Network dials receivers. It refuses addresses that are not on the public
// internet unless they are allowed. It is safe for concurrent use.
type Network struct {
	guard  guard
	dialer net.Dialer
	client *http.Client
}

// New makes a network. Every action of a process should share one, so that they
// share its connections.
func New(cfg Config) *Network {
	n := &Network{
		guard:  newGuard(cfg.Allow),
		dialer: net.Dialer{Timeout: dialTimeout, KeepAlive: keepAlive},
	}
	n.client = &http.Client{
		Transport: originOnly{n.transport(cfg.RootCAs)},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
	return n
}

// HTTPClient is the client that all HTTP actions share. It follows no redirect,
// asks no proxy, keeps no cookies, decompresses nothing and verifies TLS. It has
// no timeout of its own: the context of each request bounds it.
func (n *Network) HTTPClient() *http.Client { return n.client }

// DialContext connects over TCP. An address that the guard refuses gives an
// error that matches [ErrRefused] and is permanent when the name led to no other
// address; every other failure is transient.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	var passed atomic.Bool
	dialer := n.dialer
	dialer.ControlContext = func(_ context.Context, network, address string, _ syscall.RawConn) error {
		err := n.guard.check(network, address)
		if err == nil {
			passed.Store(true)
		}
		return err
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil && isRefusal(err) && !passed.Load() {
		return nil, observer.Permanent(observer.ReasonPermanent, err)
	}
	return conn, err
}

// dialCounted dials for the HTTP client, whose requests ask the connection
// whether anything of them was written.
func (n *Network) dialCounted(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := n.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return &countedConn{Conn: conn}, nil
}

func (n *Network) transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // a proxy would dial for us, past the guard
		DialContext:            n.dialCounted,
		TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots},
		TLSHandshakeTimeout:    tlsTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: headerBytes,
		DisableCompression:     true,
		MaxIdleConns:           idleTotal,
		MaxIdleConnsPerHost:    idlePerHost,
		IdleConnTimeout:        idleTimeout,
		ForceAttemptHTTP2:      true,
		// Without pings a dead HTTP/2 connection would hold every request to its host.
		HTTP2: &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingTimeout},
	}
}

// originOnly reduces the Location of a redirect to scheme and host. Nobody
// follows it, its path may repeat secrets of the request, and net/http would
// quote the whole of one that it cannot parse.
type originOnly struct{ next *http.Transport }

func (t originOnly) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if location := resp.Header.Get("Location"); location != "" {
		resp.Header.Del("Location")
		if to, err := req.URL.Parse(location); err == nil && to.Host != "" {
			resp.Header.Set("Location", Origin(to))
		}
	}
	return resp, nil
}

// CloseIdleConnections lets http.Client.CloseIdleConnections reach the pool.
func (t originOnly) CloseIdleConnections() { t.next.CloseIdleConnections() }

// Origin names the server of a URL, scheme and host, and nothing that could be
// a secret.
func Origin(u *url.URL) string { return fmt.Sprintf("%s://%s", u.Scheme, u.Host) }
