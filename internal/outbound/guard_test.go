package outbound

import (
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
		{"fd00:ec2::254", "private"},                 // AWS metadata
		{"fd20:ce::254", "private"},                  // Google metadata
		{"169.254.169.254", "link-local"},            // metadata nearly everywhere
		{"169.254.170.2", "link-local"},              // container credentials
		{"::ffff:169.254.169.254", "link-local"},     // the same
		{"::ffff:a9fe:a9fe", "link-local"},           // the same
		{"fe80::1", "link-local"},                    //
		{"fe80::1%eth0", "link-local"},               //
		{"168.63.129.16", "reserved"},                // Azure
		{"100.100.100.200", "reserved"},              // Alibaba
		{"192.0.0.192", "reserved"},                  // Oracle
		{"100.64.0.1", "reserved"},                   // carrier NAT
		{"192.0.2.1", "reserved"},                    // documentation
		{"198.51.100.1", "reserved"},                 //
		{"203.0.113.1", "reserved"},                  //
		{"198.18.0.1", "reserved"},                   // benchmarks
		{"198.19.255.255", "reserved"},               //
		{"192.88.99.1", "reserved"},                  // 6to4 relays
		{"224.0.0.1", "multicast"},                   //
		{"239.255.255.250", "multicast"},             //
		{"ff02::1", "multicast"},                     //
		{"ff0e::1", "multicast"},                     //
		{"240.0.0.1", "reserved"},                    //
		{"255.255.255.255", "reserved"},              // broadcast
		{"::127.0.0.1", "reserved"},                  // IPv4-compatible
		{"::10.0.0.1", "reserved"},                   //
		{"::ffff:0:127.0.0.1", "reserved"},           // IPv4-translated
		{"::ffff:0:8.8.8.8", "reserved"},             //
		{"64:ff9b::7f00:1", "reserved"},              // NAT64 of 127.0.0.1
		{"64:ff9b::8.8.8.8", "reserved"},             // NAT64 must be allowed as such
		{"64:ff9b:1::a00:1", "reserved"},             // local NAT64
		{"2002:7f00:1::", "reserved"},                // 6to4 of 127.0.0.1
		{"2002:a00:1::1", "reserved"},                //
		{"2002:808:808::1", "reserved"},              //
		{"2001:0:7f00:1::", "reserved"},              // Teredo
		{"2001:0:808:808:0:0:80ff:fffe", "reserved"}, //
		{"2a00:1450:4001::5efe:10.0.0.1", "private"}, // ISATAP
		{"2a00:1450:4001::200:5efe:7f00:1", "loopback"},
		{"2001:db8::1", "reserved"},
		{"3fff::1", "reserved"},
		{"fec0::1", "reserved"}, // site-local
		{"100::1", "reserved"},  // discard
		{"5f00::1", "reserved"}, // segment routing
		{"2001:10::1", "reserved"},
		{"4000::1", "reserved"},
	}
	g := newGuard(nil)
	for _, tt := range tests {
		t.Run(tt.address, func(t *testing.T) {
			t.Parallel()
			err := g.check("tcp4", net.JoinHostPort(tt.address, "443"))
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
	g := newGuard(nil)
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
		{"2002::/16", "2002:808:808::1", true},
		{"2002::/16", "2002:a00:1::1", false},
	}
	for _, tt := range tests {
		g := newGuard([]netip.Prefix{netip.MustParsePrefix(tt.allow)})
		err := g.check("tcp4", net.JoinHostPort(tt.address, "443"))
		if (err == nil) != tt.want {
			t.Errorf("with %s allowed, check(%s) = %v, want allowed %t", tt.allow, tt.address, err, tt.want)
		}
	}
	both := newGuard([]netip.Prefix{netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("10.0.0.0/8")})
	if err := both.check("tcp6", "[64:ff9b::10.0.0.1]:443"); err != nil {
		t.Errorf("with NAT64 and the range behind it allowed: %v", err)
	}
}

func TestGuardRefusesOtherNetworks(t *testing.T) {
	t.Parallel()
	g := newGuard([]netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("::/0")})
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
