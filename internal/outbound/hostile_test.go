package outbound

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
)

func discard() *log.Logger { return log.New(io.Discard, "", 0) }

// raw serves connections by hand: handle gets each after its request was read.
func raw(t *testing.T, handle func(conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				if req, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
					_, _ = io.Copy(io.Discard, req.Body)
					handle(conn)
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return "http://" + l.Addr().String()
}

// forever writes chunk until the other side hangs up.
func forever(w io.Writer, chunk string) {
	for bytes := []byte(chunk); ; { // once: memory is measured meanwhile
		if _, err := w.Write(bytes); err != nil {
			return
		}
	}
}

func TestEndlessAnswerIsCutOff(t *testing.T) {
	t.Parallel()
	url := raw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		forever(conn, strings.Repeat("x", 4096))
	})
	result, err := post(t.Context(), t, loopback(t), url, observer.Redactor{})
	if err != nil || len(result.Detail) != detailBytes {
		t.Errorf("%d bytes of detail, %v; want a success with 1 KiB", len(result.Detail), err)
	}
}

func TestHeaderFloodIsCutOff(t *testing.T) {
	t.Parallel()
	url := raw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n")
		for range 200 {
			_, _ = io.WriteString(conn, "X-Flood: "+strings.Repeat("x", 1000)+"\r\n")
		}
		_, _ = io.WriteString(conn, "Content-Length: 0\r\n\r\n")
	})
	_, err := post(t.Context(), t, loopback(t), url, observer.Redactor{})
	if err == nil || !observer.Retryable(err) || !strings.Contains(err.Error(), "headers") {
		t.Errorf("%v, want a transient error about the headers", err)
	}
}

// trickle writes a byte a second until the other side hangs up.
func trickle(conn net.Conn, text string) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	hungUp := make(chan struct{})
	go func() { defer close(hungUp); _, _ = io.Copy(io.Discard, conn) }()
	for i := 0; ; i++ {
		if _, err := fmt.Fprintf(conn, "%c", text[i%len(text)]); err != nil {
			return
		}
		select {
		case <-tick.C:
		case <-hungUp:
			return
		}
	}
}

func TestTricklingHeadersEndWithTheContext(t *testing.T) {
	t.Parallel()
	url := raw(t, func(conn net.Conn) { trickle(conn, "HTTP/1.1 200 OK\r\nX-A: b\r\n") })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	start := time.Now()
	_, err := post(ctx, t, loopback(t), url, observer.Redactor{})
	if !errors.Is(err, context.DeadlineExceeded) || !observer.Retryable(err) {
		t.Errorf("%v, want the deadline, transient", err)
	}
	if took := time.Since(start); took > 3*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestTricklingBodyDoesNotUndoTheAnswer(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]observer.Reason{"200 OK": "", "503 Busy": observer.ReasonExhausted, "404 No": observer.ReasonPermanent} {
		t.Run(status, func(t *testing.T) {
			t.Parallel()
			url := raw(t, func(conn net.Conn) {
				_, _ = io.WriteString(conn, "HTTP/1.1 "+status+"\r\nContent-Length: 1000000\r\n\r\n")
				trickle(conn, "x")
			})
			// Long enough for the headers on a busy machine, far too short for the body.
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
			defer cancel()
			result, err := post(ctx, t, loopback(t), url, observer.Redactor{})
			if strconv.Itoa(result.Status) != status[:3] || err != nil && observer.ReasonOf(err) != want || (err == nil) != (want == "") {
				t.Errorf("status %d, %v", result.Status, err)
			}
		})
	}
}

func TestSilentBodyIsGivenUpOnceTheStatusIsKnown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		go func() {
			if req, err := http.ReadRequest(bufio.NewReader(theirs)); err == nil {
				_, _ = io.Copy(io.Discard, req.Body)
				_, _ = io.WriteString(theirs, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nthe beginning")
			}
		}()
		dial := func(context.Context, string, string) (net.Conn, error) { return ours, nil }
		client := &http.Client{Transport: &http.Transport{DialContext: dial}}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://example.com", strings.NewReader("body"))
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		result, err := Exchange(client, req, observer.Redactor{})
		if took := time.Since(start); err != nil || result.Detail != "the beginning" || took != answerTime {
			t.Errorf("%+v, %v after %v; want a success after %v", result, err, took, answerTime)
		}
		_ = theirs.Close()
	})
}

func TestCancelledContextReturnsAtOnce(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) { t.Error("the receiver was called") })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := post(ctx, t, loopback(t), url, observer.Redactor{}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want context.Canceled", err)
	}
}

func TestConnectionsAreReused(t *testing.T) {
	t.Parallel()
	var opened atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, strings.Repeat("x", 32<<10))
	}))
	server.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	n := loopback(t)
	const lanes, rounds = 20, 10
	var wg sync.WaitGroup
	for range lanes {
		wg.Go(func() {
			for range rounds {
				_, _ = post(t.Context(), t, n, server.URL, observer.Redactor{})
			}
		})
	}
	wg.Wait()
	// A lane may dial while the connection of its last request is on its way back
	// to the pool, so there can be a few more than lanes, but not one a request.
	if got := opened.Load(); got > 3*lanes {
		t.Errorf("%d connections for %d requests of %d lanes", got, lanes*rounds, lanes)
	}
}

func TestNothingIsAddedToRequestsOrKept(t *testing.T) {
	t.Parallel()
	var second http.Header
	var calls atomic.Int64
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if calls.Add(1) == 2 {
			second = r.Header.Clone()
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
	})
	n := loopback(t)
	for range 2 {
		if _, err := post(t.Context(), t, n, url, observer.Redactor{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"Cookie", "Accept-Encoding", "Authorization", "Referer"} {
		if second.Get(name) != "" {
			t.Errorf("%s: %q was sent", name, second.Get(name))
		}
	}
}

func TestNoProxyIsAsked(t *testing.T) {
	t.Parallel()
	transport := New(Config{}).HTTPClient().Transport.(originOnly).next
	if transport.Proxy != nil {
		t.Error("a proxy would dial past the guard")
	}
}
