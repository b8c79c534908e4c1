package outbound

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"

	"github.com/fraiseql/observer"
)

// nameServer answers every question for an A record with what answer gives for
// the nth question, and every other question with nothing.
func nameServer(t *testing.T, answer func(n int) []netip.Addr) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		serveNames(conn, answer)
	}()
	t.Cleanup(func() { _ = conn.Close(); <-done })
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp4", conn.LocalAddr().String())
	}}
}

func serveNames(conn net.PacketConn, answer func(n int) []netip.Addr) {
	const typeA = 1
	buf := make([]byte, 1500)
	for asked := 0; ; {
		n, from, err := conn.ReadFrom(buf)
		if err != nil {
			return
		}
		end := 12
		for buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		question := buf[12 : end+5]
		var addrs []netip.Addr
		if binary.BigEndian.Uint16(question[len(question)-4:]) == typeA {
			asked++
			addrs = answer(asked)
		}
		_, _ = conn.WriteTo(reply(buf[:min(n, 12)], question, addrs), from)
	}
}

func reply(header, question []byte, addrs []netip.Addr) []byte {
	out := append([]byte{}, header[:2]...)
	out = append(out, 0x81, 0x80, 0, 1)
	out = binary.BigEndian.AppendUint16(out, uint16(len(addrs)))
	out = append(out, 0, 0, 0, 0)
	out = append(out, question...)
	for _, a := range addrs {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, a.AsSlice()...)
	}
	return out
}

func TestRebindingNameIsJudgedAtDialTime(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var reached atomic.Bool
	go func() {
		if conn, err := l.Accept(); err == nil {
			reached.Store(true)
			_ = conn.Close()
		}
	}()
	n := New(Config{})
	// The first answer, which a check before dialing would see, is public.
	public := netip.MustParseAddr("93.184.216.34")
	n.dialer.Resolver = nameServer(t, func(n int) []netip.Addr {
		if n == 1 {
			return []netip.Addr{public}
		}
		return []netip.Addr{netip.MustParseAddr("127.0.0.1")}
	})
	first, err := n.dialer.Resolver.LookupNetIP(t.Context(), "ip4", "rebind.test")
	if err != nil || len(first) != 1 || first[0] != public {
		t.Fatalf("first answer: %v, %v", first, err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_, err = n.DialContext(t.Context(), "tcp", net.JoinHostPort("rebind.test", port))
	if !isRefusal(err) || observer.Retryable(err) {
		t.Errorf("dial = %v, want a permanent refusal", err)
	}
	if reached.Load() {
		t.Error("the private listener was reached")
	}
}

func TestNameWithOneAllowedAddressIsNotGivenUp(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close() // nobody listens: the allowed address refuses the connection
	n := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}})
	n.dialer.Resolver = nameServer(t, func(int) []netip.Addr {
		// The refusal comes first, and it is the first error that a dialer gives.
		return []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}
	})
	_, err = n.DialContext(t.Context(), "tcp", net.JoinHostPort("mixed.test", port))
	if err == nil || !observer.Retryable(err) {
		t.Errorf("dial = %v, want a transient error", err)
	}
}

func TestUnknownNameIsTransient(t *testing.T) {
	t.Parallel()
	n := loopback(t)
	n.dialer.Resolver = nameServer(t, func(int) []netip.Addr { return nil })
	_, err := n.DialContext(t.Context(), "tcp", "nowhere.test:80")
	if err == nil || !observer.Retryable(err) {
		t.Errorf("dial = %v, want a transient error", err)
	}
}
