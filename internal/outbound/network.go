package outbound

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"time"
)

const (
	dialTimeout   = 10 * time.Second
	tlsTimeout    = 10 * time.Second
	headerTimeout = 5 * time.Minute // a net below the timeout of each action
	keepAlive     = 30 * time.Second
	idleTimeout   = 90 * time.Second
	pingAfter     = 30 * time.Second
	pingTimeout   = 15 * time.Second
	idlePerHost   = 100
	idleTotal     = 1000
	headerBytes   = 64 << 10
)

// Config says what actions may reach, and how.
type Config struct {
	// Allow lists private or reserved ranges that may be dialed although the
	// guard would refuse them. Default: none. It does not open the addresses
	// where clouds hand out credentials, unless a range is that one address.
	Allow []netip.Prefix
	// Ports are the ports that may be dialed, at any address. Default: every one.
	Ports []uint16
	// Proxy is the HTTP proxy that public addresses are reached through, by
	// CONNECT to an address that was judged here: http or https, with the user and
	// password that it wants. Default: none. The environment names none.
	Proxy *url.URL
	// RootCAs verify the certificates of HTTPS receivers that have none of
	// their own. Default: those of the system.
	RootCAs *x509.CertPool
	// DialTimeout bounds looking up a name and connecting. Default: 10 s.
	DialTimeout time.Duration
	// TLSTimeout bounds the TLS handshake. Default: 10 s.
	TLSTimeout time.Duration
	// HeaderTimeout bounds the time from the end of a request to the header of
	// its answer. Default: 5 minutes.
	HeaderTimeout time.Duration
}

func (c Config) withDefaults() Config {
	c.DialTimeout = cmp.Or(c.DialTimeout, dialTimeout)
	c.TLSTimeout = cmp.Or(c.TLSTimeout, tlsTimeout)
	c.HeaderTimeout = cmp.Or(c.HeaderTimeout, headerTimeout)
	return c
}

// Network dials receivers. It refuses addresses that are not on the public
// internet unless they are allowed. It is safe for concurrent use.
type Network struct {
	cfg    Config
	guard  guard
	dialer net.Dialer
	client *http.Client

	mu      sync.Mutex
	clients map[TLS]ownClient
}

// New makes a network. Every action of a process should share one, so that they
// share its connections.
func New(cfg Config) *Network {
	cfg = cfg.withDefaults()
	n := &Network{
		cfg: cfg, guard: newGuard(cfg.Allow, cfg.Ports), clients: map[TLS]ownClient{},
		dialer: net.Dialer{Timeout: cfg.DialTimeout, KeepAlive: keepAlive},
	}
	n.client = n.newClient(&tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12})
	return n
}

// HTTPClient is the client that all HTTP actions share that have no TLS settings
// of their own. It follows no redirect, asks no proxy of the environment, keeps no
// cookies, decompresses nothing and verifies TLS. It has no timeout of its own:
// the context of each request bounds it.
func (n *Network) HTTPClient() *http.Client { return n.client }

func (n *Network) newClient(encryption *tls.Config) *http.Client {
	return &http.Client{
		Transport: originOnly{n.transport(encryption)},
		CheckRedirect: func(*http.Request, []*http.Request) error {
			return http.ErrUseLastResponse
		},
	}
}

func (n *Network) transport(encryption *tls.Config) *http.Transport {
	return &http.Transport{
		Proxy:                  nil, // it would dial for us, past the guard; DialContext knows the proxy
		DialContext:            n.dialCounted,
		TLSClientConfig:        encryption,
		TLSHandshakeTimeout:    n.cfg.TLSTimeout,
		ResponseHeaderTimeout:  n.cfg.HeaderTimeout,
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
