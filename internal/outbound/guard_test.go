package outbound

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

func TestGuardRefusesWhatIsNotPublic(t *testing.T) {
	t.Parallel()
	tests := []struct{ address, class string }{
		{"127.0.0.1", "loopback"},
		{"127.255.255.254", "loopback"},
		{"::1", "loopback"},
		{"::ffff:127.0.0.1", "loopback"},
		{"::ffff:7f00:1", "loopback"},
		{"0.0.0.0", "unspecified"},
		{"::", "unspecified"},
		{"::ffff:0.0.0.0", "unspecified"},
		{"0.1.2.3", "reserved"},
		{"10.0.0.1", "private"},
		{"10.255.255.255", "private"},
		{"172.16.0.1", "private"},
		{"172.31.255.255", "private"},
		{"192.168.1.1", "private"},
		{"::ffff:10.0.0.1", "private"},
		{"::ffff:192.168.1.1", "private"},
		{"fc00::1", "private"},
		{"fd00::1", "private"},
		{"fe80::1", "link-local"},
		{"fe80::1%eth0", "link-local"},
		{"::1%lo", "loopback"},
		{"169.254.0.1", "link-local"},
		{"169.254.169.254", "cloud metadata"},
		{"169.254.170.2", "cloud metadata"},  // containers of AWS
		{"169.254.170.23", "cloud metadata"}, // pods of AWS
		{"::ffff:169.254.169.254", "cloud metadata"},
		{"::ffff:a9fe:a9fe", "cloud metadata"},
		{"168.63.129.16", "cloud metadata"}, // Azure
		{"::ffff:168.63.129.16", "cloud metadata"},
		{"100.100.100.200", "cloud metadata"}, // Alibaba
		{"192.0.0.192", "cloud metadata"},     // Oracle
		{"fd00:ec2::254", "cloud metadata"},   // AWS
		{"fd00:ec2::23", "cloud metadata"},    // pods of AWS
		{"fd20:ce::254", "cloud metadata"},    // Google
		{"fd00:42::42", "cloud metadata"},     // Scaleway
		{"fe80::a9fe:a9fe", "cloud metadata"}, // OpenStack
		{"fe80::a9fe:a9fe%eth0", "cloud metadata"},
		{"100.64.0.1", "reserved"}, // carrier NAT
		{"100.127.255.255", "reserved"},
		{"192.0.0.1", "reserved"}, // protocol assignments
		{"192.0.2.1", "reserved"}, // documentation
		{"198.51.100.1", "reserved"},
		{"203.0.113.1", "reserved"},
		{"198.18.0.1", "reserved"}, // benchmarks
		{"198.19.255.255", "reserved"},
		{"192.88.99.1", "reserved"},  // 6to4 relays
		{"192.31.196.1", "reserved"}, // AS112
		{"192.52.193.1", "reserved"}, // AMT
		{"192.175.48.1", "reserved"},
		{"224.0.0.1", "multicast"},
		{"239.255.255.250", "multicast"},
		{"ff02::1", "multicast"},
		{"ff0e::1", "multicast"},
		{"240.0.0.1", "reserved"},
		{"255.255.255.255", "reserved"}, // broadcast
		{"::127.0.0.1", "reserved"},     // IPv4-compatible
		{"::10.0.0.1", "reserved"},
		{"::8.8.8.8", "reserved"},
		{"::ffff:0:127.0.0.1", "reserved"}, // IPv4-translated
		{"::ffff:0:8.8.8.8", "reserved"},
		{"64:ff9b::7f00:1", "reserved"},  // NAT64 of 127.0.0.1
		{"64:ff9b::8.8.8.8", "reserved"}, // NAT64 must be allowed as such
		{"64:ff9b:1::a00:1", "reserved"}, // local NAT64
		{"64:ff9b:1:808:8:800::", "reserved"},
		{"2002:7f00:1::", "reserved"}, // 6to4 of 127.0.0.1
		{"2002:a00:1::1", "reserved"},
		{"2002:808:808::1", "reserved"},
		{"2001:0:7f00:1::", "reserved"}, // Teredo
		{"2001:0:808:808:0:0:80ff:fffe", "reserved"},
		{"2a00:1450:4001::5efe:10.0.0.1", "private"}, // ISATAP
		{"2a00:1450:4001::200:5efe:7f00:1", "loopback"},
		{"2a00:1450:4001::100:5efe:169.254.169.254", "cloud metadata"},
		{"2a00:1450:4001::5efe:100.64.0.1", "reserved"},
		{"2001:db8::1", "reserved"}, // documentation
		{"3fff::1", "reserved"},
		{"3fff:fff:ffff::1", "reserved"},
		{"fec0::1", "reserved"},         // site-local
		{"100::1", "reserved"},          // discard
		{"100:0:0:1::1", "reserved"},    // dummy
		{"5f00::1", "reserved"},         // segment routing
		{"2001:2::1", "reserved"},       // benchmarks
		{"2001:3::1", "reserved"},       // AMT
		{"2001:4:112::1", "reserved"},   // AS112
		{"2001:10::1", "reserved"},      // ORCHID
		{"2001:20::1", "reserved"},      // ORCHIDv2
		{"2001:30::1", "reserved"},      // drone identifiers
		{"2620:4f:8000::1", "reserved"}, // AS112
		{"4000::1", "reserved"},
	}
	g := newGuard(nil, nil)
	for _, tt := range tests {
		t.Run(tt.address, func(t *testing.T) {
			t.Parallel()
			err := g.check("tcp4", netip.AddrPortFrom(netip.MustParseAddr(tt.address), 443).String())
			if !errors.Is(err, ErrRefused) {
				t.Fatalf("check = %v, want a refusal", err)
			}
			if !strings.Contains(err.Error(), " is "+tt.class+";") || !strings.Contains(err.Error(), "[network] allow") {
				t.Errorf("%q does not say that it is %s and what to do", err, tt.class)
			}
		})
	}
}

func TestGuardPassesPublicAddresses(t *testing.T) {
	t.Parallel()
	g := newGuard(nil, nil)
	for _, address := range []string{
		"8.8.8.8", "1.1.1.1", "93.184.216.34", "172.15.255.255", "172.32.0.1", "192.167.255.255", "11.0.0.1",
		"100.63.255.255", "100.128.0.1", "169.253.255.255", "223.255.255.255", "::ffff:8.8.8.8",
		"2606:4700:4700::1111", "2001:4860:4860::8888", "2a00:1450:4001:800::200e",
		"2a00:1450:4001::5efe:8.8.8.8",
	} {
		if err := g.check("tcp6", net.JoinHostPort(address, "80")); err != nil {
			t.Errorf("check(%s) = %v", address, err)
		}
	}
}

func TestGuardAllows(t *testing.T) {
	t.Parallel()
	tests := []struct {
		allow, address string
		want           bool
	}{
		{"127.0.0.0/8", "127.0.0.1", true},
		{"127.0.0.0/8", "::ffff:127.0.0.1", true},
		{"::ffff:127.0.0.0/104", "127.0.0.1", true},
		{"127.0.0.0/8", "::1", false},
		{"::1/128", "::1", true},
		{"::1/128", "127.0.0.1", false},
		{"10.1.0.0/16", "10.1.2.3", true},
		{"10.1.0.0/16", "10.2.0.1", false},
		{"fe80::/10", "fe80::1%eth0", true},
		{"168.63.129.16/32", "168.63.129.16", true},
		{"64:ff9b::/96", "64:ff9b::8.8.8.8", true},
		{"64:ff9b::/96", "64:ff9b::10.0.0.1", false},
		{"64:ff9b::/96", "64:ff9b::169.254.169.254", false},
		{"64:ff9b::/16", "64:ff9b::10.0.0.1", false},
		{"2002::/16", "2002:808:808::1", true},
		{"2002::/16", "2002:a00:1::1", false},
		{"2002::/16", "2002:808:808::5efe:10.0.0.1", false}, // two schemes in one address
		{"::/0", "::8.8.8.8", true},
		{"::/0", "::10.0.0.1", false},
		{"::/0", "::1", true},
		{"::/0", "::", true},
		{"::/0", "::ffff:0:8.8.8.8", true},
		{"::/0", "::ffff:0:10.0.0.1", false},
		{"::/0", "::ffff:10.0.0.1", false}, // it is dialed as IPv4
		{"::/0", "2002:a00:1::1", false},
		{"2001::/32", "2001:0:808:808:0:0:f7f7:f7f7", true},  // Teredo of 8.8.8.8 behind 8.8.8.8
		{"2001::/32", "2001:0:a00:1:0:0:f7f7:f7f7", false},   // its server is 10.0.0.1
		{"2001::/32", "2001:0:808:808:0:0:f5ff:fffe", false}, // its client is 10.0.0.1
		{"2a00:1450::/32", "2a00:1450:4001::5efe:10.0.0.1", false},
		// The length of a NAT64 prefix says where the address stands (RFC 6052).
		{"64:ff9b:1::/48", "64:ff9b:1:808:8:800::", true},
		{"64:ff9b:1::/48", "64:ff9b:1:a00:0:100::", false},
		{"64:ff9b:1::/48", "64:ff9b:1:a83f:81:1000::", false}, // Azure's
		{"64:ff9b:1:5500::/56", "64:ff9b:1:55a8:3f:8110::", false},
		{"64:ff9b:1:55::/64", "64:ff9b:1:55:a8:3f81:1000::", false},
		{"64:ff9b:1::/48", "64:ff9b:1:808:8:800:a00:1", false}, // no translator makes it
		{"64:ff9b:1::/48", "64:ff9b:1:808:108:800::", false},   // nor this
		{"64:ff9b:1:5500::/56", "64:ff9b:1:5508:8:808::", true},
		{"64:ff9b:1:5500::/56", "64:ff9b:1:550a:0:1::", false},
		{"64:ff9b:1:5500::/56", "64:ff9b:1:5508:8:808:0:1", false},
		{"64:ff9b:1:55::/64", "64:ff9b:1:55:8:808:800::", true},
		{"64:ff9b:1:55::/64", "64:ff9b:1:55:a:0:100::", false},
		{"64:ff9b:1:55::/64", "64:ff9b:1:55:8:808:800:1", false},
		{"64:ff9b:1:55::/96", "64:ff9b:1:55::8.8.8.8", true},
		{"64:ff9b:1:55::/96", "64:ff9b:1:55::10.0.0.1", false},
		{"64:ff9b:1::/47", "64:ff9b:1:808:8:800::", false},
		{"::/0", "64:ff9b:1::8.8.8.8", false},
		{"64:ff9b:1::8.8.8.8/128", "64:ff9b:1::8.8.8.8", false},
		// Only their very address opens the metadata of clouds.
		{"169.254.0.0/16", "169.254.1.1", true},
		{"169.254.0.0/16", "169.254.169.254", false},
		{"169.254.169.254/32", "169.254.169.254", true},
		{"169.254.169.254/32", "64:ff9b::169.254.169.254", false},
		{"0.0.0.0/0", "10.0.0.1", true},
		{"0.0.0.0/0", "168.63.129.16", false},
		{"0.0.0.0/0", "169.254.169.254", false},
		{"100.64.0.0/10", "100.64.0.1", true},
		{"100.64.0.0/10", "100.100.100.200", false},
		{"fc00::/7", "fd00::1", true},
		{"fc00::/7", "fd00:ec2::254", false},
		{"fd00:ec2::254/128", "fd00:ec2::254", true},
		{"fe80::/10", "fe80::a9fe:a9fe%eth0", false},
	}
	for _, tt := range tests {
		g := newGuard([]netip.Prefix{netip.MustParsePrefix(tt.allow)}, nil)
		err := g.check("tcp4", netip.AddrPortFrom(netip.MustParseAddr(tt.address), 443).String())
		if (err == nil) != tt.want {
			t.Errorf("with %s allowed, check(%s) = %v, want allowed %t", tt.allow, tt.address, err, tt.want)
		}
	}
	both := newGuard([]netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("10.0.0.0/8")}, nil)
	if err := both.check("tcp6", "[64:ff9b::10.0.0.1]:443"); err != nil {
		t.Errorf("with NAT64 and the range behind it allowed: %v", err)
	}
}

func TestGuardKeepsToThePorts(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, []uint16{443, 8443})
	for _, tt := range []struct {
		address string
		want    string // "" when it may be reached
	}{
		{"8.8.8.8:443", ""}, {"8.8.8.8:8443", ""}, {"10.0.0.1:443", ""}, {"[2606:4700:4700::1111]:443", ""},
		{"8.8.8.8:22", "port 22 of 8.8.8.8 is not one of [network] ports"}, {"10.0.0.1:6379", "port 6379 of 10.0.0.1"},
		{"192.168.0.1:443", "192.168.0.1 is private"}, {"8.8.8.8:0", "port 0"},
	} {
		err := g.check("tcp4", tt.address)
		if (err == nil) != (tt.want == "") || err != nil && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("check(%s) = %v, want %q in it", tt.address, err, tt.want)
		}
	}
	if err := newGuard(nil, nil).check("tcp4", "8.8.8.8:22"); err != nil {
		t.Errorf("without ports: %v", err)
	}
}

// FuzzGuard looks for an address that passes although the IPv4 address it is
// written over is private.
func FuzzGuard(f *testing.F) {
	for _, text := range []string{"::ffff:10.0.0.1", "64:ff9b::a00:1", "64:ff9b:1:a00:0:100::", "2002:a00:1::", "2001::f5ff:fffe", "fe80::5efe:a00:1%1"} {
		f.Add(netip.MustParseAddr(text).AsSlice())
	}
	open := newGuard([]netip.Prefix{netip.MustParsePrefix("::/0"), netip.MustParsePrefix("64:ff9b:1::/48")}, nil)
	f.Fuzz(func(t *testing.T, b []byte) {
		addr, ok := netip.AddrFromSlice(b)
		if !ok || open.checkAddr(addr) != nil {
			return
		}
		if addr = addr.Unmap(); addr.Is4() {
			if addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.IsUnspecified() {
				t.Errorf("%s passed", addr)
			}
			return
		}
		private := []byte{10, 0, 0, 1}
		for _, at := range []int{2, 4, 12} { // 6to4, the Teredo server, and what ends with the address
			schemes := [][]byte{{0x20, 0x02}, {0x20, 0x01, 0, 0}, {0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}}
			if s := addr.AsSlice(); bytes.HasPrefix(s, schemes[at/5]) && bytes.Equal(s[at:at+4], private) {
				t.Errorf("%s passed", addr)
			}
		}
	})
}

func TestGuardRefusesOtherNetworks(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")}, nil)
	for _, c := range [][2]string{{"udp4", "8.8.8.8:53"}, {"unix", "/run/docker.sock"}, {"ip4", "8.8.8.8"}, {"tcp4", "8.8.8.8"}} {
		if err := g.check(c[0], c[1]); !errors.Is(err, ErrRefused) {
			t.Errorf("check(%s, %s) = %v, want a refusal", c[0], c[1], err)
		}
	}
}

func TestDialRefusesPermanently(t *testing.T) {
	t.Parallel()
	n := New(Config{})
	for _, address := range []string{"127.0.0.1:80", "localhost:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "0.0.0.0:80"} {
		conn, err := n.DialContext(t.Context(), "tcp", address)
		if err == nil {
			_ = conn.Close()
			t.Fatalf("%s was dialed", address)
		}
		if !errors.Is(err, ErrRefused) || observer.ReasonOf(err) != observer.ReasonPermanent {
			t.Errorf("dial %s: %v (reason %s), want a permanent refusal", address, err, observer.ReasonOf(err))
		}
	}
}
