package testenv_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// echo answers each line with itself.
func echo(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return listener.Addr().String()
}

// caller sends lines and reads what comes back.
type caller struct {
	net.Conn
	answers *bufio.Reader
}

func call(t *testing.T, address string) caller {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return caller{conn, bufio.NewReader(conn)}
}

func (c caller) ask(text string, within time.Duration) (string, error) {
	if err := c.SetDeadline(time.Now().Add(within)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, text); err != nil {
		return "", err
	}
	return c.answers.ReadString('\n')
}

func TestProxyPassesUntilTheMarker(t *testing.T) {
	t.Parallel()
	p := testenv.NewProxy(t, echo(t))
	conn := call(t, p.Address)
	p.HangUp("now")
	for _, text := range []string{"one\n", "no\n", "w\n"} {
		if got, err := conn.ask(text, time.Minute); err != nil || got != text {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if got, err := conn.ask("right now\n", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v; want the end of the connection", got, err)
	}
}

func TestProxyIsSilent(t *testing.T) {
	t.Parallel()
	p := testenv.NewProxy(t, echo(t))
	p.Mute("now")
	if got, err := call(t, p.Address).ask("right now\n", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v; want silence", got, err)
	}
	p.Pass()
	if got, err := call(t, p.Address).ask("right now\n", time.Minute); err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

func TestProxyIsAway(t *testing.T) {
	t.Parallel()
	p := testenv.NewProxy(t, echo(t))
	conn := call(t, p.Address)
	if _, err := conn.ask("one\n", time.Minute); err != nil {
		t.Fatal(err)
	}
	p.Away()
	if got, err := conn.ask("two\n", time.Minute); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%q, %v; want the end of the connection", got, err)
	}
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", p.Address); err == nil {
		_ = conn.Close()
		t.Error("it takes connections")
	}
}

func TestProxyCutsWhatIsConnected(t *testing.T) {
	t.Parallel()
	for name, cut := range map[string]func(*testenv.Proxy){
		"cut": (*testenv.Proxy).Cut, "lose": func(p *testenv.Proxy) { p.Lose(t) },
	} {
		p := testenv.NewProxy(t, echo(t))
		old := call(t, p.Address)
		if got, err := old.ask("one\n", time.Minute); err != nil {
			t.Fatalf("%s: %q, %v", name, got, err)
		}
		cut(p)
		if got, err := call(t, p.Address).ask("two\n", time.Minute); err != nil || got != "two\n" {
			t.Errorf("%s: a new connection: %q, %v", name, got, err)
		}
		if got, err := old.ask("three\n", 100*time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %q, %v; want silence", name, got, err)
		}
	}
}
