package outbound

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/fraiseql/observer"
)

// DialContext connects over TCP: to a public address through the proxy where
// there is one, to what is allowed besides directly. An address that the guard
// refuses gives an error that matches [ErrRefused] and is permanent when the name
// led to no other address; every other failure is transient.
func (n *Network) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := split(address)
	if isRefusal(err) {
		return nil, observer.Permanent(observer.ReasonPermanent, err)
	}
	if err == nil && n.cfg.Proxy != nil {
		return n.dialAround(ctx, host, port)
	}
	return n.dialDirectly(ctx, network, address)
}

func (n *Network) dialDirectly(ctx context.Context, network, address string) (net.Conn, error) {
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

// Check judges a receiver by how it is written, and asks for no names: an error,
// which matches [ErrRefused], says that every attempt will be refused. nil says
// nothing of where a name leads.
func (n *Network) Check(host, port string) error {
	if err := checkHost(host); err != nil {
		return err
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return fmt.Errorf("%w: %s is not a port", ErrRefused, strconv.Quote(port))
	}
	if err := n.guard.checkPort(host, uint16(number)); err != nil {
		return err
	}
	if name := strings.ToLower(strings.TrimSuffix(host, ".")); name == "localhost" || strings.HasSuffix(name, ".localhost") {
		host = "127.0.0.1"
		if n.guard.checkAddr(netip.IPv6Loopback()) == nil {
			return nil
		}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return nil //nolint:nilerr // it is a name
	}
	return n.guard.checkAddr(addr)
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
