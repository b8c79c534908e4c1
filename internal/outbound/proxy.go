package outbound

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/fraiseql/observer"
)

// dialAround resolves and judges a host here, and connects to what passed: where
// [network] allow lists it directly, else through the proxy. The proxy is told the
// address, never the name: it would resolve that again, and to something else.
func (n *Network) dialAround(ctx context.Context, host, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DialTimeout)
	defer cancel()
	passed, err := n.resolve(ctx, host, port)
	if err != nil {
		return nil, err
	}
	var errs []error
	for i, to := range passed {
		conn, err := n.dialOne(ctx, to, len(passed)-i)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, err)
	}
	return nil, errs[0] // as a dialer does
}

// resolve gives the addresses of a host that may be reached, IPv4 first: a proxy
// without IPv6 is common.
func (n *Network) resolve(ctx context.Context, host, port string) ([]netip.AddrPort, error) {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("port %q is not a number", port)
	}
	resolver := cmp.Or(n.dialer.Resolver, net.DefaultResolver)
	addrs, err := resolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	var passed []netip.AddrPort
	var refused error
	for _, addr := range addrs {
		to := netip.AddrPortFrom(addr.Unmap(), uint16(number))
		if err := n.guard.checkAddrPort(to); err != nil {
			refused = cmp.Or(refused, err)
			continue
		}
		passed = append(passed, to)
	}
	if len(passed) == 0 {
		return nil, observer.Permanent(observer.ReasonPermanent, refused)
	}
	slices.SortStableFunc(passed, func(a, b netip.AddrPort) int { return a.Addr().BitLen() - b.Addr().BitLen() })
	return passed, nil
}

// dialOne connects to one of several addresses that are still to try, and takes
// no more than its share of the time that is left.
func (n *Network) dialOne(ctx context.Context, to netip.AddrPort, left int) (net.Conn, error) {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/time.Duration(left))
		defer cancel()
	}
	if _, listed := n.guard.allowed(plainAddr(to.Addr())); listed {
		return n.dialDirectly(ctx, "tcp", to.String())
	}
	conn, err := n.connect(ctx, to)
	if err != nil {
		return nil, fmt.Errorf("%s through the proxy %s: %w", to, Origin(n.cfg.Proxy), err)
	}
	return conn, nil
}

// connect asks the proxy for a tunnel. The proxy itself is not judged: naming it
// in the configuration allows it, and only as a proxy.
func (n *Network) connect(ctx context.Context, to netip.AddrPort) (_ net.Conn, err error) {
	dialer := net.Dialer{KeepAlive: keepAlive, Resolver: n.dialer.Resolver}
	conn, err := dialer.DialContext(ctx, "tcp", proxyAddress(n.cfg.Proxy))
	if err != nil {
		return nil, err
	}
	// Reading and writing know nothing of ctx; closing ends them.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if !stop() {
			err = cmp.Or(ctx.Err(), err)
		}
		if err != nil {
			_ = conn.Close()
		}
	}()
	tunnelled := conn
	if n.cfg.Proxy.Scheme == "https" {
		encrypted := tls.Client(conn, &tls.Config{
			ServerName: n.cfg.Proxy.Hostname(), RootCAs: n.cfg.RootCAs, MinVersion: tls.VersionTLS12,
		})
		if err := encrypted.HandshakeContext(ctx); err != nil {
			return nil, err
		}
		tunnelled = encrypted
	}
	return askFor(tunnelled, to, n.cfg.Proxy.User)
}

func proxyAddress(proxy *url.URL) string {
	standard := "80"
	if proxy.Scheme == "https" {
		standard = "443"
	}
	return net.JoinHostPort(proxy.Hostname(), cmp.Or(proxy.Port(), standard))
}

// askFor is the dialogue of CONNECT.
func askFor(conn net.Conn, to netip.AddrPort, user *url.Userinfo) (net.Conn, error) {
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Opaque: to.String()}, Host: to.String(), Header: http.Header{},
	}
	req.Header.Set("User-Agent", "FraiseQL-Observer")
	if user != nil {
		password, _ := user.Password()
		pair := base64.StdEncoding.EncodeToString([]byte(user.Username() + ":" + password))
		req.Header.Set("Proxy-Authorization", "Basic "+pair)
	}
	if err := req.Write(conn); err != nil {
		return nil, err
	}
	answer := bufio.NewReader(io.LimitReader(conn, headerBytes))
	resp, err := http.ReadResponse(answer, req)
	if err != nil {
		return nil, errors.New("its answer to CONNECT cannot be read") // a text of its own would be the proxy's words
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("it answers CONNECT with status %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	}
	// A server that speaks first may have been heard already.
	early, err := answer.Peek(answer.Buffered())
	if err != nil {
		return nil, err
	}
	return &tunnel{Conn: conn, to: to, r: io.MultiReader(bytes.NewReader(early), conn)}, nil
}

// tunnel is a connection through the proxy. Its other end is the receiver, not
// the proxy: whether a password may be said aloud depends on that.
type tunnel struct {
	net.Conn

	to netip.AddrPort
	r  io.Reader
}

func (t *tunnel) Read(p []byte) (int, error) { return t.r.Read(p) }

// RemoteAddr is the address of the receiver.
func (t *tunnel) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(t.to) }
