package outbound

import (
	"context"
	"crypto/tls"
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

// silent reads and says nothing. It closes got when there is something to read.
func silent(t *testing.T) (address string, got chan struct{}) {
	t.Helper()
	got = make(chan struct{})
	return accept(t, func(conn net.Conn) {
		_, _ = conn.Read(make([]byte, 1))
		close(got)
		_, _ = io.Copy(io.Discard, conn)
	}), got
}

// until is a context that ends when got is closed, if there is one.
func until(t *testing.T, got <-chan struct{}) context.Context {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-got:
			cancel()
		case <-ctx.Done():
		}
	}()
	t.Cleanup(func() { cancel(); <-done })
	return ctx
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
	still, _ := silent(t)
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
		"silent in the TLS part": {client: loopback(t).HTTPClient(), url: "https://" + still, ends: true},
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
	still, got := silent(t)
	second, secondURL, gotSecond := overHTTP2(t)
	tests := map[string]struct {
		client *http.Client
		url    string
		body   string
		ends   <-chan struct{} // when to end the context
	}{
		"hangs up":         {client: ours, url: serve(t, hangUp)},
		"silent":           {client: ours, url: "http://" + still, ends: got},
		"no HTTP":          {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "220 mail.test\r\n") })},
		"half an answer":   {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nX-A") })},
		"secret in it":     {client: ours, url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, "s3cret s3cret\r\n") })},
		"HTTP/2":           {client: second, url: secondURL, ends: gotSecond},
		"foreign dialer":   {client: dialing(new(net.Dialer).DialContext), url: serve(t, hangUp)},
		"half of the body": {client: ours, url: "http://" + cuts(t, 64<<10), body: strings.Repeat("x", 16<<20)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := send(until(t, tt.ends), t, tt.client, tt.url, "body"+tt.body)
			if err == nil || !observer.IsOutcomeUnknown(err) || !observer.Retryable(err) || errors.Is(err, context.Canceled) != (tt.ends != nil) {
				t.Errorf("%v, want a transient error with an unknown outcome", err)
			}
			if err != nil && strings.Contains(err.Error(), "s3cret") {
				t.Errorf("the secret shows: %v", err)
			}
		})
	}
}

// overHTTP2 is a receiver that reads a request, closes got and does not answer.
func overHTTP2(t *testing.T) (client *http.Client, url string, got chan struct{}) {
	t.Helper()
	got = make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor != 2 {
			t.Errorf("the request came over %s", r.Proto)
		}
		close(got)
		<-r.Context().Done()
	}))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	n := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots})
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	return n.HTTPClient(), server.URL, got
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

// kept is a client with one connection to a receiver that accepted a request.
// From then on the connection takes nothing any more if dead, and the next dial
// gives what next gives.
func kept(t *testing.T, receiver *httptest.Server, dead bool, next func(ctx context.Context) (net.Conn, error)) *http.Client {
	t.Helper()
	t.Cleanup(receiver.Close)
	var used, broken atomic.Bool
	transport := &http.Transport{DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if used.Swap(true) {
			conn, err := next(ctx)
			return &countedConn{Conn: conn}, err
		}
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		return &countedConn{Conn: brokenLater{conn, &broken}}, err
	}}
	if receiver.TLS != nil {
		transport.TLSClientConfig = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
		transport.TLSClientConfig.RootCAs.AddCert(receiver.Certificate())
	}
	client := &http.Client{Transport: transport}
	t.Cleanup(client.CloseIdleConnections)
	if _, err := send(t.Context(), t, client, receiver.URL, "body"); err != nil {
		t.Fatal(err)
	}
	broken.Store(dead)
	return client
}

func refused(context.Context) (net.Conn, error) { return nil, io.ErrUnexpectedEOF }

// A kept connection that turns out to be dead takes nothing; net/http tries
// another one, and what happens there decides.
func TestOutcomeOverADeadConnectionIsThatOfTheNext(t *testing.T) {
	t.Parallel()
	still, got := silent(t)
	dial := func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "tcp", still) }
	accepts := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	tests := map[string]struct {
		receiver *httptest.Server
		next     func(ctx context.Context) (net.Conn, error)
		ends     <-chan struct{}
	}{
		"refused":           {receiver: httptest.NewServer(accepts), next: refused},
		"refused after TLS": {receiver: httptest.NewTLSServer(accepts), next: refused},
		"not answered":      {receiver: httptest.NewServer(accepts), next: dial, ends: got},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client := kept(t, tt.receiver, true, tt.next)
			_, err := send(until(t, tt.ends), t, client, tt.receiver.URL, "body")
			if err == nil || observer.IsOutcomeUnknown(err) != (tt.ends != nil) {
				t.Errorf("%v, want an error with an unknown outcome: %t", err, tt.ends != nil)
			}
		})
	}
}

// net/http repeats a GET by itself when a kept connection ends. That the second
// one could not be sent says nothing about the first.
func TestOutcomeOfARepeatedGetIsThatOfBoth(t *testing.T) {
	t.Parallel()
	still, _ := silent(t)
	for name, next := range map[string]func(ctx context.Context) (net.Conn, error){
		"refused": refused,
		"dead": func(ctx context.Context) (net.Conn, error) {
			var broken atomic.Bool
			broken.Store(true)
			conn, err := new(net.Dialer).DialContext(ctx, "tcp", still)
			return brokenLater{conn, &broken}, err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int64
			receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if calls.Add(1) == 2 {
					hangUp(w, r)
				}
			}))
			client := kept(t, receiver, false, next)
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, receiver.URL, nil)
			if err != nil {
				t.Fatal(err)
			}
			_, err = Exchange(client, req, observer.Redactor{})
			if !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.ErrClosedPipe) || !observer.IsOutcomeUnknown(err) {
				t.Errorf("%v, want the failure of the second connection, with an unknown outcome", err)
			}
		})
	}
}
