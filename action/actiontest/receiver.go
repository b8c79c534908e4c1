package actiontest

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Receiver is an HTTP server that keeps what it accepts.
type Receiver struct {
	// URL is where it listens.
	URL string

	listener net.Listener

	mu       sync.Mutex
	answer   Answer
	requests []Received
}

// Received is one request as a [Receiver] got it.
type Received struct {
	Method, URI string
	Header      http.Header
	Body        string
}

// NewReceiver starts a receiver that stops with the test.
func NewReceiver(t *testing.T) *Receiver {
	t.Helper()
	r := &Receiver{}
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	r.URL, r.listener = server.URL, server.Listener
	return r
}

// Network is one that reaches this machine.
func Network() *outbound.Network {
	return outbound.New(outbound.Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

// Client is an HTTP client that reaches this machine, and whose connections end
// with the test.
func Client(t *testing.T) *http.Client {
	t.Helper()
	c := Network().HTTPClient()
	t.Cleanup(c.CloseIdleConnections)
	return c
}

// ServeHTTP answers as it was told to.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	switch r.take(Received{req.Method, req.RequestURI, req.Header.Clone(), string(body)}) {
	case Accept:
		_, _ = io.WriteString(w, "ok: "+string(body))
	case RefuseNow:
		http.Error(w, req.RequestURI+" "+string(body), http.StatusServiceUnavailable)
	case RefuseForever:
		http.Error(w, req.RequestURI+" "+string(body), http.StatusBadRequest)
	case Hang:
		<-req.Context().Done()
	case HangUp:
		hangUp(w)
	case Away: // the request was on its way before
	}
}

func hangUp(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func (r *Receiver) take(got Received) Answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.answer == Accept {
		r.requests = append(r.requests, got)
	}
	return r.answer
}

// Answer sets how requests are treated from now on.
func (r *Receiver) Answer(a Answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = a
	if a == Away {
		_ = r.listener.Close()
	}
}

// Requests are the accepted ones, oldest first.
func (r *Receiver) Requests() []Received {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Bodies are the bodies of the accepted requests, oldest first.
func (r *Receiver) Bodies() []string {
	var bodies []string
	for _, got := range r.Requests() {
		bodies = append(bodies, got.Body)
	}
	return bodies
}

// InvalidFields are the keys that the [observer.FieldError]s in err name, in
// the order they were found.
func InvalidFields(err error) []string {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		var fields []string
		for _, e := range joined.Unwrap() {
			fields = append(fields, InvalidFields(e)...)
		}
		return fields
	}
	if f, ok := errors.AsType[*observer.FieldError](err); ok {
		return []string{f.Field}
	}
	return nil
}
