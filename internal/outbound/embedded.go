package outbound

import "net/netip"

// The translators whose prefix is not fixed in all its bits: RFC 6052 lets the
// length of the prefix decide where the IPv4 address stands.
const (
	localNAT64Bits = 48
	wholeNAT64Bits = 96
)

// embedded are the IPv4 addresses that an IPv6 address carries for those on the
// way who translate it, unwrap it or route by it. known is false when the address
// belongs to such a scheme and where it carries them cannot be told. prefix is
// the allowed range that has it, if one does.
func embedded(addr netip.Addr, prefix netip.Prefix) (found []netip.Addr, known bool) {
	if !addr.Is6() || addr.Is4In6() {
		return nil, true
	}
	b := addr.As16()
	if isNAT64(b) && b[5] == 1 { // 64:ff9b:1::/48
		return atLength(b, prefix.Bits())
	}
	switch {
	case zeros(b[:12]) && b[12] != 0, // compatible; ::1 is not one
		zeros(b[:8]) && [4]byte(b[8:12]) == [4]byte{0xff, 0xff, 0, 0}, // translated (SIIT)
		isNAT64(b) && zeros(b[5:12]),                                  // 64:ff9b::/96
		isISATAP(b):
		found = v4(b[12:])
	}
	switch {
	case [4]byte(b[:4]) == [4]byte{0x20, 0x01, 0, 0}: // Teredo: the server, and the client inverted
		found = append(found, netip.AddrFrom4([4]byte(b[4:8])), netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}))
	case b[0] == 0x20 && b[1] == 0x02: // 6to4
		found = append(found, netip.AddrFrom4([4]byte(b[2:6])))
	}
	return found, true
}

// isISATAP tells the interface identifier of ISATAP, which stands under any prefix.
func isISATAP(b [16]byte) bool { return b[8]&^3 == 0 && [3]byte(b[9:12]) == [3]byte{0, 0x5e, 0xfe} }

func isNAT64(b [16]byte) bool { return [5]byte(b[:5]) == [5]byte{0, 0x64, 0xff, 0x9b, 0} }

// atLength is the IPv4 address behind a NAT64 prefix of the given length. Where
// it is shorter than 96 bits, a translator ignores the rest; an address that has
// something there was not made by one, and might mean another thing to the next.
func atLength(b [16]byte, bits int) ([]netip.Addr, bool) {
	switch bits {
	case localNAT64Bits:
		return v4([]byte{b[6], b[7], b[9], b[10]}), b[8] == 0 && zeros(b[11:])
	case 56:
		return v4([]byte{b[7], b[9], b[10], b[11]}), b[8] == 0 && zeros(b[12:])
	case 64:
		return v4(b[9:13]), b[8] == 0 && zeros(b[13:])
	case wholeNAT64Bits:
		return v4(b[12:]), b[8] == 0
	}
	return nil, false
}

func v4(b []byte) []netip.Addr { return []netip.Addr{netip.AddrFrom4([4]byte(b))} }

func zeros(b []byte) bool {
	for _, one := range b {
		if one != 0 {
			return false
		}
	}
	return true
}
