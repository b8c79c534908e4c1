package outbound

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"code.dny.dev/ssrf"
)

// ErrRefused matches errors about an address that actions may not reach.
var ErrRefused = errors.New("address refused")

// guard judges resolved addresses.
type guard struct {
	guardian *ssrf.Guardian
	allow    []netip.Prefix
	ports    []uint16 // nil: every one
}

func newGuard(allow []netip.Prefix, ports []uint16) guard {
	g := guard{
		guardian: ssrf.New(ssrf.WithAnyPort(), ssrf.WithAnyNetwork()),
		ports:    slices.Clone(ports),
	}
	for _, p := range allow {
		g.allow = append(g.allow, unmapPrefix(p))
	}
	return g
}

// unmapPrefix writes an IPv4 range given in IPv4-mapped IPv6 form as IPv4.
func unmapPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p
}

// metadata are the addresses where clouds hand out the credentials of the machine
// that asks. Some stand in ranges that people allow for other reasons, so that
// only naming the very address opens one.
func metadata() []netip.Addr {
	return []netip.Addr{
		netip.AddrFrom4([4]byte{169, 254, 169, 254}),                                   // nearly everywhere
		netip.AddrFrom4([4]byte{169, 254, 170, 2}),                                     // containers of AWS
		netip.AddrFrom4([4]byte{169, 254, 170, 23}),                                    // pods of AWS
		netip.AddrFrom4([4]byte{168, 63, 129, 16}),                                     // Azure
		netip.AddrFrom4([4]byte{100, 100, 100, 200}),                                   // Alibaba
		netip.AddrFrom4([4]byte{192, 0, 0, 192}),                                       // Oracle
		netip.AddrFrom16([16]byte{0xfd, 0, 0x0e, 0xc2, 14: 0x02, 15: 0x54}),            // AWS, fd00:ec2::254
		netip.AddrFrom16([16]byte{0xfd, 0, 0x0e, 0xc2, 15: 0x23}),                      // pods of AWS, fd00:ec2::23
		netip.AddrFrom16([16]byte{0xfd, 0x20, 0, 0xce, 14: 0x02, 15: 0x54}),            // Google, fd20:ce::254
		netip.AddrFrom16([16]byte{0xfd, 0, 0, 0x42, 15: 0x42}),                         // Scaleway, fd00:42::42
		netip.AddrFrom16([16]byte{0xfe, 0x80, 12: 0xa9, 13: 0xfe, 14: 0xa9, 15: 0xfe}), // OpenStack, fe80::a9fe:a9fe
	}
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
	return g.checkAddrPort(to)
}

func (g guard) checkAddrPort(to netip.AddrPort) error {
	if err := g.checkAddr(to.Addr()); err != nil {
		return err
	}
	return g.checkPort(to.Addr().String(), to.Port())
}

func (g guard) checkPort(host string, port uint16) error {
	if g.ports != nil && !slices.Contains(g.ports, port) {
		return fmt.Errorf("%w: port %d of %s is not one of [network] ports", ErrRefused, port, host)
	}
	return nil
}

func (g guard) checkAddr(addr netip.Addr) error {
	addr = plainAddr(addr)
	prefix, _ := g.allowed(addr)
	if !g.safe(addr) {
		return refusal(addr, addr)
	}
	// A gateway may translate the address, so allowing the range of a
	// translator does not open the private IPv4 networks behind it.
	inner, known := embedded(addr, prefix)
	if !known {
		return fmt.Errorf("%w: where %s leads depends on the NAT64 prefix: write that in [network] allow, "+
			"with its length of 48, 56, 64 or 96 bits", ErrRefused, addr)
	}
	for _, in := range inner {
		if !g.safe(in) {
			return refusal(addr, in)
		}
	}
	return nil
}

// plainAddr is an address as ranges have it: IPv4 as IPv4, and without a zone,
// because no range contains an address with one.
func plainAddr(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// allowed finds the smallest allowed range that has addr.
func (g guard) allowed(addr netip.Addr) (smallest netip.Prefix, ok bool) {
	for _, p := range g.allow {
		if p.Contains(addr) && (!ok || p.Bits() > smallest.Bits()) {
			smallest, ok = p, true
		}
	}
	return smallest, ok
}

// safe reports whether addr by itself may be reached.
func (g guard) safe(addr netip.Addr) bool {
	prefix, allowed := g.allowed(addr)
	if slices.Contains(metadata(), addr) {
		return allowed && prefix.IsSingleIP()
	}
	return allowed || g.guardian.SafeAddr(addr) == nil
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
	case slices.Contains(metadata(), addr):
		return "cloud metadata"
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

// checkHost refuses a host that means an address to some resolvers and is written
// as none: 127.1, 0x7f.0.0.1, 017700000001, 2130706433. Go takes them for names and
// asks, C libraries for IPv4 addresses. No name ends in a number, so it is never
// one, and asking again would not help.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	last := name[strings.LastIndexByte(name, '.')+1:]
	if !isDigits(last) && !isHex(last) {
		return nil
	}
	return fmt.Errorf("%w: %s is neither a name nor an address: write IPv4 addresses as four decimal numbers",
		ErrRefused, strconv.Quote(host))
}

func isHex(s string) bool {
	digits, ok := strings.CutPrefix(s, "0x")
	return ok && strings.Trim(digits, "0123456789abcdef") == ""
}

// isRefusal reports whether err is about an address that the guard refused.
func isRefusal(err error) bool { return errors.Is(err, ErrRefused) }

// split takes host:port apart and checks the host.
func split(address string) (host, port string, err error) {
	if host, port, err = net.SplitHostPort(address); err != nil {
		return "", "", err
	}
	return host, port, checkHost(host)
}
