package outbound

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"

	"code.dny.dev/ssrf"
)

// ErrRefused matches errors about an address that actions may not reach.
var ErrRefused = errors.New("address refused")

// guard judges resolved addresses.
type guard struct{ guardian *ssrf.Guardian }

func newGuard(allow []netip.Prefix) guard {
	var v4, v6 []netip.Prefix
	for _, p := range allow {
		switch p = unmapPrefix(p); {
		case p.Addr().Is4():
			v4 = append(v4, p)
		default:
			v6 = append(v6, p)
		}
	}
	return guard{ssrf.New(
		ssrf.WithAnyPort(),
		ssrf.WithAllowedV4Prefixes(v4...),
		ssrf.WithAllowedV6Prefixes(v6...),
		// Azure serves instance secrets on this public-looking address.
		ssrf.WithDeniedV4Prefixes(netip.PrefixFrom(netip.AddrFrom4([4]byte{168, 63, 129, 16}), 32)),
	)}
}

// unmapPrefix writes an IPv4 range given in IPv4-mapped IPv6 form as IPv4.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// check judges an address as the dialer resolved it.
func (g guard) check(network, address string) error {
	if network != "tcp4" && network != "tcp6" {
		return fmt.Errorf("%w: network %s is not TCP", ErrRefused, network)
	}
	to, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %s is not an address and port", ErrRefused, address)
	}
	return g.checkAddr(to.Addr())
}

func (g guard) checkAddr(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("") // no prefix contains an address with a zone
	if g.guardian.SafeAddr(addr) != nil {
		return refusal(addr, addr)
	}
	// A gateway may translate the address, so allowing the range of a
	// translator does not open the private IPv4 networks behind it.
	if inner, ok := embedded(addr); ok && g.guardian.SafeAddr(inner) != nil {
		return refusal(addr, inner)
	}
	return nil
}

// embedded is the IPv4 address inside an IPv6 address of NAT64, 6to4 or ISATAP.
func embedded(addr netip.Addr) (netip.Addr, bool) {
	if !addr.Is6() {
		return netip.Addr{}, false
	}
	b := addr.As16()
	switch {
	case ssrf.IPv6NAT64Prefix.Contains(addr),
		bytes.Equal(b[8:12], []byte{0, 0, 0x5e, 0xfe}),
		bytes.Equal(b[8:12], []byte{2, 0, 0x5e, 0xfe}):
		return netip.AddrFrom4([4]byte(b[12:16])), true
	case b[0] == 0x20 && b[1] == 0x02:
		return netip.AddrFrom4([4]byte(b[2:6])), true
	}
	return netip.Addr{}, false
}

func refusal(addr, because netip.Addr) error {
	what := addr.String()
	if addr != because {
		what += " leads to " + because.String() + ", which"
	}
	return fmt.Errorf("%w: %s is %s; add it to [network] allow if actions may reach it",
		ErrRefused, what, class(because))
}

// class is the word people use for a range that is not public.
func class(addr netip.Addr) string {
	switch {
	case addr.IsLoopback():
		return "loopback"
	case addr.IsPrivate():
		return "private"
	case addr.IsLinkLocalUnicast():
		return "link-local"
	case addr.IsMulticast():
		return "multicast"
	case addr.IsUnspecified():
		return "unspecified"
	}
	return "reserved"
}

func isRefusal(err error) bool { return errors.Is(err, ErrRefused) }
