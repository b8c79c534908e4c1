package outbound

import (
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fraiseql/observer"
)

// forbidden listens where nobody may connect to and counts who does.
func forbidden(t *testing.T, address string) (at string, reached *atomic.Int64) {
	t.Helper()
	l, err := net.Listen("tcp", address)
	if err != nil {
		t.Skipf("%s is no address of this machine: %v", address, err)
	}
	reached = &atomic.Int64{}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			reached.Add(1)
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
		if n := reached.Load(); n != 0 {
			t.Errorf("%d forbidden connections to %s", n, l.Addr())
		}
	})
	return l.Addr().String(), reached
}

// unusualHosts are ways to write addresses of this machine. Those that are
// neither names nor addresses mean one to C libraries, and to Go a name.
func unusualHosts() map[string]bool {
	return map[string]bool{ // whether it is a name or an address
		"2130706433": false, "127.1": false, "127.0.1": false, "0177.0.0.1": false, "0x7f.1": false, "0x7f000001": false,
		"0X7F.0.0.1": false, "017700000001": false, "0": false, "127.0.0.1.": false, "127.0.0.01": false, "127.1.": false,
		"0x": false, "169.254.43518": false, "2852039166": false, "127.0.0.0x1": false, "::ffff:127.1": false,
		"127.0.0.1": true, "localhost": true, "LOCALHOST": true, "::1": true, "::1%lo": true, "::ffff:127.0.0.1": true,
		"::ffff:7f00:1": true, "0:0:0:0:0:0:0:1": true, "0.0.0.0": true, "::": true,
	}
}

func TestUnusualHostsAreRefused(t *testing.T) {
	t.Parallel()
	address, _ := forbidden(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(address)
	// What a resolver of a C library makes of them, and of everything else.
	likeC := nameServer(t, func(int) []netip.Addr { return []netip.Addr{netip.MustParseAddr("127.0.0.1")} })
	for name, resolver := range map[string]*net.Resolver{"of the system": nil, "like that of C": likeC} {
		for host, proper := range unusualHosts() {
			n := New(Config{})
			n.dialer.Resolver = resolver
			_, err := n.DialContext(t.Context(), "tcp", net.JoinHostPort(host, port))
			if !isRefusal(err) || observer.Retryable(err) {
				t.Errorf("resolver %s, host %q: %v, want a permanent refusal", name, host, err)
				continue
			}
			if strings.Contains(err.Error(), "neither a name nor an address") == proper {
				t.Errorf("host %q: %v", host, err)
			}
		}
	}
}

// The same in URLs, where net/http has its own ideas about hosts, such as
// digits of other scripts.
func TestUnusualHostsInURLsAreRefused(t *testing.T) {
	t.Parallel()
	address, _ := forbidden(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(address)
	n := New(Config{})
	for _, host := range []string{
		"2130706433", "0177.0.0.1", "0x7f.1", "127.1", "017700000001", "0x7f000001", "127.0.0.1", "localhost",
		"１２７.０.０.１", "①②⑦.⓪.⓪.①", "127。0。0。1", "２１３０７０６４３３", "[::1]", "[::1%25lo]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
	} {
		_, err := post(t.Context(), t, n, "http://"+host+":"+port+"/", observer.Redactor{})
		if !isRefusal(err) || observer.Retryable(err) {
			t.Errorf("host %q: %v, want a permanent refusal", host, err)
		}
	}
}

func TestNamesAreNoNumbers(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"example.com", "example.com.", "1.example", "0x7f.example", "10.0.0.1.nip.io", "x1", "a.1b", "8.8.8.8", "2606:4700::1111",
		"fe80::1%eth0", "x.0xyz", "",
	} {
		if err := checkHost(host); err != nil {
			t.Errorf("checkHost(%q) = %v", host, err)
		}
	}
}
