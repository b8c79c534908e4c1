package outbound

import (
	"net/netip"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// loopback is a network that may reach the servers of the tests.
func loopback(t testing.TB) *Network {
	t.Helper()
	n := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	return n
}
