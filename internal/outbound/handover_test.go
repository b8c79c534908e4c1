package outbound

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// accept listens for one connection, which handle gets and the end of the test
// closes.
func accept(t *testing.T, handle func(conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	over, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		if conn, err := l.Accept(); err == nil {
			go func() { <-over; _ = conn.Close() }()
			handle(conn)
		}
	}()
	t.Cleanup(func() { _ = l.Close(); close(over); <-done })
	return l.Addr().String()
}

// silent reads and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	return accept(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })
}

// cuts ends the connection after so many bytes.
func cuts(t *testing.T, after int64) string {
	t.Helper()
	return accept(t, func(conn net.Conn) {
		_, _ = io.CopyN(io.Discard, conn, after)
		_ = conn.Close()
	})
}

// closed is an address where nobody listens.
func closed(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	return l.Addr().String()
}

func dialing(dial func(ctx context.Context, network, address string) (net.Conn, error)) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: dial}}
}

func TestOutcomeOfWhatWasNotSentIsKnown(t *testing.T) {
	t.Parallel()
	nowhere := loopback(t)
	nowhere.dialer.Resolver = nameServer(t, func(int) []netip.Addr { return nil })
	distrusted := httptest.NewUnstartedServer(http.NotFoundHandler())
	distrusted.Config.ErrorLog = discard()
	distrusted.StartTLS()
	t.Cleanup(distrusted.Close)
	over := make(chan struct{})
	t.Cleanup(func() { close(over) })
	tests := map[string]struct {
		client *http.Client
		url    string
		ends   bool // only the context ends it
	}{
		"connection refused":     {client: loopback(t).HTTPClient(), url: "http://" + closed(t)},
		"address refused":        {client: New(Config{}).HTTPClient(), url: "http://127.0.0.1:1"},
		"no such name":           {client: nowhere.HTTPClient(), url: "http://nowhere.test"},
		"certificate":            {client: loopback(t).HTTPClient(), url: distrusted.URL},
		"not TLS":                {client: loopback(t).HTTPClient(), url: "https" + strings.TrimPrefix(serve(t, hangUp), "http")},
		"silent in the TLS part": {client: loopback(t).HTTPClient(), url: "https://" + silent(t), ends: true},
		"silent in the dial": {url: "http://example.com", ends: true, client: dialing(func(context.Context, string, string) (net.Conn, error) {
			<-over
			return nil, net.ErrClosed
		})},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.ends {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
				defer cancel()
			}
			_, err := send(ctx, t, tt.client, tt.url, "body")
			if err == nil || observer.IsOutcomeUnknown(err) || errors.Is(err, context.DeadlineExceeded) != tt.ends {
				t.Errorf("%v, want an error with a known outcome", err)
			}
		})
	}
}

func send(ctx context.Context, t *testing.T, client *http.Client, url, body string) (observer.Result, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return Exchange(client, req, observer.NewRedactor(observer.NewSecret("s3cret")))
}

func TestOutcomeOfWhatWasSentAndNotAnsweredIsUnknown(t *testing.T) {
	t.Parallel()
	ours := loopback(t).HTTPClient()
	tests := map[string]struct {
		client *http.Client
		url    string
		body   string
		ends   bool
	}{
		"hangs up":         {client: ours, url: serve(t, hangUp)},
		"silent":           {client: ours, url: "http://" + silent(t), ends: true},
		"no HTTP":          {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.test\r\n") })},
		"half an answer":   {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A") })},
		"secret in it":     {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "s3cret s3cret\r\n") })},
		"HTTP/2":           overHTTP2(t),
		"foreign dialer":   {client: dialing(new(net.Dialer).DialContext), url: serve(t, hangUp)},
		"half of the body": {client: ours, url: "http://" + cuts(t, 64<<10), body: strings.Repeat("x", 64<<20)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			if tt.ends {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 500*time.Millisecond)
				defer cancel()
			}
			_, err := send(ctx, t, tt.client, tt.url, "body"+tt.body)
			if err == nil || !observer.IsOutcomeUnknown(err) || !observer.Retryable(err) || errors.Is(err, context.DeadlineExceeded) != tt.ends {
				t.Errorf("%v, want a transient error with an unknown outcome", err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret shows: %v", err)
			}
		})
	}
}

// overHTTP2 is a receiver that reads a request and does not answer.
func overHTTP2(t *testing.T) (tt struct {
	client *http.Client
	url    string
	body   string
	ends   bool
}) {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came over %s", r.Proto)
		}
		<-r.Context().Done()
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	n := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots})
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	tt.client, tt.url, tt.ends = n.HTTPClient(), server.URL, true
	return tt
}

// brokenLater fails every write once it is told to, with nothing written.
type brokenLater struct {
	net.Conn
	broken *atomic.Bool
}

func (c brokenLater) Write(p []byte) (int, error) {
	if c.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(p)
}

// A kept connection that turns out to be dead takes nothing; net/http tries
// another one, and what happens there decides.
func TestOutcomeOverADeadConnectionIsThatOfTheNext(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	still := silent(t)
	next := map[string]func(ctx context.Context) (net.Conn, error){
		"known":   func(context.Context) (net.Conn, error) { return nil, io.ErrUnexpectedEOF },
		"unknown": func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", still) },
	}
	for want, second := range next {
		t.Run(want, func(t *testing.T) {
			t.Parallel()
			var broken atomic.Bool
			client := dialing(func(ctx context.Context, network, address string) (net.Conn, error) {
				if broken.Load() {
					conn, err := second(ctx)
					return &countedConn{Conn: conn}, err
				}
				conn, err := new(net.Dialer).DialContext(ctx, network, address)
				return &countedConn{Conn: brokenLater{conn, &broken}}, err
			})
			t.Cleanup(client.CloseIdleConnections)
			if _, err := send(t.Context(), t, client, url, "body"); err != nil {
				t.Fatal(err)
			}
			broken.Store(true)
			ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
			defer cancel()
			_, err := send(ctx, t, client, url, "body")
			if err == nil || observer.IsOutcomeUnknown(err) != (want == "unknown") {
				t.Errorf("%v, want an error with an outcome that is %s", err, want)
			}
		})
	}
}
