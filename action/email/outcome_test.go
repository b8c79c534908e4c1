package email

import (
	"bytes"
	"context"
	"errors"
	"net"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/actiontest"
)

// onDot does something else than writing what has the final dot in it.
type onDot struct {
	net.Conn
	instead func(p []byte) (int, error)
}

func (c onDot) Write(p []byte) (int, error) {
	if bytes.HasSuffix(p, []byte("\r\n.\r\n")) {
		return c.instead(p)
	}
	return c.Conn.Write(p)
}

// toDot makes an attempt with a server that answers with lines, on a connection
// that treats the final dot in its own way.
func toDot(ctx context.Context, t *testing.T, instead func(conn net.Conn, p []byte) (int, error), lines ...string) (observer.Result, error) {
	t.Helper()
	address, _ := script(t, lines...)
	server := Server{Host: "127.0.0.1", Port: address.Port, TLS: noTLS, From: "a@example.com"}
	a, err := New(simple(), server, func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return onDot{conn, func(p []byte) (int, error) { return instead(conn, p) }}, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return a.Execute(ctx, delivery())
}

// The server's side of the dialogue up to the final dot; what it says then comes
// early, which the client cannot see.
func answering(reply string) []string {
	return []string{"220 hi", "250 mail.test", "250 ok", "250 ok", "354 go on\r\n" + reply}
}

func TestReplyToTheFinalDotDecides(t *testing.T) {
	t.Parallel()
	write := func(conn net.Conn, p []byte) (int, error) { return conn.Write(p) }
	tests := map[string]struct {
		reply     string
		status    int
		failed    bool
		retryable bool
		unknown   bool
	}{
		"taken":             {reply: "250 taken", status: 250},
		"taken, two lines":  {reply: "250-taken\r\n250 indeed", status: 250},
		"refused for now":   {reply: "451 later", status: 451, failed: true, retryable: true},
		"closing":           {reply: "421 closing", status: 421, failed: true, retryable: true},
		"refused":           {reply: "554 spam", status: 554, failed: true},
		"another success":   {reply: "252 perhaps", status: 252, failed: true, retryable: true, unknown: true},
		"no reply at all":   {reply: "hello", failed: true, retryable: true, unknown: true},
		"not of this world": {reply: "354 go on", status: 354, failed: true, retryable: true, unknown: true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := toDot(t.Context(), t, write, answering(tt.reply)...)
			if result.Status != tt.status || (err != nil) != tt.failed {
				t.Errorf("%+v, %v", result, err)
			}
			if tt.failed && (observer.Retryable(err) != tt.retryable || observer.IsOutcomeUnknown(err) != tt.unknown) {
				t.Errorf("%v: want retryable %t, unknown %t", err, tt.retryable, tt.unknown)
			}
		})
	}
}

func TestHalfAReplyLeavesTheOutcomeUnknown(t *testing.T) {
	t.Parallel()
	cut := func(conn net.Conn, p []byte) (int, error) {
		n, err := conn.Write(p)
		return n, errors.Join(err, conn.(*net.TCPConn).CloseRead())
	}
	_, err := toDot(t.Context(), t, cut, answering("250-tak")...)
	if !observer.Retryable(err) || !observer.IsOutcomeUnknown(err) {
		t.Errorf("%v, want a transient error with an unknown outcome", err)
	}
}

func TestMessageWithoutItsFinalDotIsNotTaken(t *testing.T) {
	t.Parallel()
	for name, left := range map[string]int{"nothing of it": 1 << 20, "all but the line end": 2, "all but the dot": 3} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := toDot(t.Context(), t, func(conn net.Conn, p []byte) (int, error) {
				n, err := conn.Write(p[:max(len(p)-left, 0)])
				return n, errors.Join(err, conn.Close(), net.ErrClosed)
			}, "220 hi", "250 mail.test", "250 ok", "250 ok", "354 go on")
			if err == nil || !observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
				t.Errorf("%v, want a transient error with a known outcome", err)
			}
		})
	}
}

func TestReplyBeforeTheFinalDotIsHeard(t *testing.T) {
	t.Parallel()
	broken := func(net.Conn, []byte) (int, error) { return 0, net.ErrClosed }
	result, err := toDot(t.Context(), t, broken, answering("552 too big")...)
	if result.Status != 552 || observer.Retryable(err) || observer.IsOutcomeUnknown(err) {
		t.Errorf("%+v, %v; want the refusal of the server", result, err)
	}
}

func TestServerThatHangsUpAfterTheMessage(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{startTLS, implicitTLS, noTLS} {
		m := startServer(t, mode, nil)
		m.setAnswer(actiontest.HangUp)
		_, err := m.action(t, simple(), m.config(mode)).Execute(t.Context(), delivery())
		if !observer.Retryable(err) || !observer.IsOutcomeUnknown(err) {
			t.Errorf("%s: %v, want a transient error with an unknown outcome", mode, err)
		}
	}
}

func TestEndpointIsTheServer(t *testing.T) {
	t.Parallel()
	secret := observer.NewSecret("canary")
	for _, tt := range []struct {
		server Server
		want   string
	}{
		{Server{Host: "smtp.example.com"}, "email smtp.example.com:587"},
		{Server{Host: "::1", Port: 25}, "email [::1]:25"},
		{Server{Host: "canary.example.com"}, "email [redacted].example.com:587 #"},
	} {
		tt.server.From = "a@example.com"
		cfg := simple()
		cfg.Redactor = observer.NewRedactor(secret)
		a, err := New(cfg, tt.server, nil)
		if err != nil {
			t.Fatal(err)
		}
		got := a.Endpoint(t.Context(), delivery())
		if got != tt.want && (tt.want[len(tt.want)-1] != '#' || got[:len(tt.want)] != tt.want) {
			t.Errorf("endpoint %q, want %q", got, tt.want)
		}
	}
}
