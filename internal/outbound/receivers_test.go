package outbound

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/tlstest"
)

// outcome is how an attempt is classified.
type outcome string

const (
	succeeds  outcome = "success"
	unknown   outcome = "transient, outcome unknown"
	passing   outcome = "transient"
	permanent outcome = "permanent"
)

func outcomeOf(err error) outcome {
	switch {
	case err == nil:
		return succeeds
	case !observer.Retryable(err):
		return permanent
	case observer.IsOutcomeUnknown(err):
		return unknown
	}
	return passing
}

// hostile is one receiver, and what an attempt at it must come to.
type hostile struct {
	url  string
	want outcome
	// says is in the error.
	says string
	// lasting says that it keeps the client busy until the attempt ends, so that
	// what is allocated, and given back, depends on the machine.
	lasting bool
}

// attemptTime is the timeout of the action in the tests of hostile receivers.
const attemptTime = 400 * time.Millisecond

// attemptBytes is what one attempt may allocate at most, the receiver's part in
// this process included. An answer is read up to 64 KiB, and its headers too.
const attemptBytes = 8 << 20

// hostileReceivers listen on this machine, for a network that trusts a.
func hostileReceivers(t *testing.T, a *tlstest.Authority, forbiddenAddress string) map[string]hostile {
	t.Helper()
	const head = "HTTP/1.1 200 OK\r\n"
	says := func(text string) string { return raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, text) }) }
	floods := func(first, then string) string {
		return raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, first); forever(conn, then) })
	}
	compressed := bomb(t)
	valid := a.Issue("receiver.test", time.Hour, tlstest.Loopback())
	return map[string]hostile{
		"hangs":                      {url: raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), want: unknown, says: "deadline"},
		"a byte a second":            {url: raw(t, func(conn net.Conn) { trickle(conn, head) }), want: unknown, says: "deadline"},
		"a byte of body a second":    {url: raw(t, func(conn net.Conn) { _, _ = io.WriteString(conn, head+"\r\n"); trickle(conn, "x") }), want: succeeds},
		"endless body":               {url: floods(head+"\r\n", strings.Repeat("x", 4096)), want: succeeds},
		"endless chunks":             {url: floods(head+"Transfer-Encoding: chunked\r\n\r\n", "1000\r\n"+strings.Repeat("x", 4096)+"\r\n"), want: succeeds},
		"chunks of nothing but form": {url: floods(head+"Transfer-Encoding: chunked\r\n\r\n", "1;"+strings.Repeat("x", 4000)+"\r\nx\r\n"), want: succeeds},
		"endless trailers":           {url: floods(head+"Transfer-Encoding: chunked\r\n\r\n0\r\n", "X-A: "+strings.Repeat("x", 4000)+"\r\n"), want: succeeds},
		"header flood":               {url: floods(head, "X-A: "+strings.Repeat("x", 1000)+"\r\n"), want: unknown, says: "headers"},
		"endless header":             {url: floods(head+"X-A: ", strings.Repeat("x", 4096)), want: unknown, says: "headers"},
		"endless status":             {url: floods("HTTP/1.1 200 ", strings.Repeat("x", 4096)), want: unknown, says: "headers"},
		"interim answers":            {url: floods("", "HTTP/1.1 103 Early Hints\r\nX-A: b\r\n\r\n"), want: unknown, says: "headers"},
		"huge length":                {url: floods(head+"Content-Length: 9223372036854775807\r\n\r\n", strings.Repeat("x", 4096)), want: succeeds},
		"two lengths":                {url: says(head + "Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"), want: unknown, says: "Content-Length"},
		"no HTTP":                    {url: says("220 mail.test ESMTP\r\n"), want: unknown, says: "malformed"},
		"another protocol":           {url: says("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"), want: permanent, says: "status 101"},
		"reset after the request":    {url: raw(t, reset), want: unknown, says: "reset"},
		"ends after the request":     {url: says(""), want: unknown, says: "EOF"},
		"gzip bomb":                  {url: says(head + "Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + compressed), want: succeeds},
		"gzip bomb as a failure":     {url: says("HTTP/1.1 503 Busy\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n" + compressed), want: passing, says: "status 503"},
		"redirect to metadata":       {url: says("HTTP/1.1 307 Moved\r\nLocation: http://169.254.169.254/latest/meta-data\r\nContent-Length: 0\r\n\r\n"), want: permanent, says: "not followed"},
		"redirect to a private host": {url: says("HTTP/1.1 302 Found\r\nLocation: http://" + forbiddenAddress + "/\r\nContent-Length: 0\r\n\r\n"), want: permanent, says: "not followed"},
		"other headers that lead": {url: says(head + "Refresh: 0; url=http://" + forbiddenAddress + "/\r\nAlt-Svc: h2=\"" + forbiddenAddress +
			"\"\r\nLink: <http://" + forbiddenAddress + "/>; rel=preload\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\n\r\n"), want: succeeds},
		"expired certificate":      {url: a.Server(a.Issue("receiver.test", -time.Minute, tlstest.Loopback()), nil), want: passing, says: "expired"},
		"certificate of another":   {url: a.Server(a.Issue("other.test", time.Hour), nil), want: passing, says: "127.0.0.1"},
		"good certificate":         {url: a.Server(valid, nil), want: succeeds}, // the others are refused for what is wrong with them
		"unknown authority":        {url: a.Server(tlstest.New(t).Issue("receiver.test", time.Hour, tlstest.Loopback()), nil), want: passing, says: "unknown authority"},
		"plain text on a TLS port": {url: strings.Replace(says("HTTP/1.1 200 OK\r\n\r\n"), "http:", "https:", 1), want: passing},
	}
}

// reset ends the connection with a reset instead of an end.
func reset(conn net.Conn) {
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// bomb is 64 MiB of zeros, compressed: more than any attempt may allocate.
func bomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	w, err := gzip.NewWriterLevel(&b, gzip.BestSpeed)
	if err != nil {
		t.Fatal(err)
	}
	zeros := make([]byte, 1<<20)
	for range 64 {
		_, _ = w.Write(zeros)
	}
	_ = w.Close()
	return b.String()
}

// watched is a network that trusts a, may reach 127.0.0.1 and nothing else, and
// tells which connections were asked for.
func watched(t *testing.T, a *tlstest.Authority) (n *Network, dials func() []string) {
	t.Helper()
	n = New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}, RootCAs: a.Pool()})
	var mu sync.Mutex
	var asked []string
	n.HTTPClient().Transport.(originOnly).next.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		mu.Lock()
		asked = append(asked, address)
		mu.Unlock()
		return n.dialCounted(ctx, network, address)
	}
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	return n, func() []string {
		mu.Lock()
		defer mu.Unlock()
		list := asked
		asked = nil
		return list
	}
}

// Whatever a receiver does: the attempt ends in time, is classified right,
// allocates little, and connects to nobody else.
func TestHostileReceivers(t *testing.T) { //nolint:paralleltest // It measures what is allocated meanwhile.
	a := tlstest.New(t)
	address, _ := forbidden(t, "127.0.0.2:0")
	n, dials := watched(t, a)
	for name, h := range hostileReceivers(t, a, address) { //nolint:paralleltest // See above.
		t.Run(name, func(t *testing.T) { h.attempt(t, n, dials) })
	}
}

func TestHostileReceiversOfHTTP2(t *testing.T) { //nolint:paralleltest // It measures what is allocated meanwhile.
	a := tlstest.New(t)
	n, dials := watched(t, a)
	for name, act := range http2Misbehaviour() { //nolint:paralleltest // See above.
		t.Run(name, func(t *testing.T) {
			h := hostile{url: rawHTTP2(t, a, act), want: unknown, lasting: name == "pings" || name == "settings"}
			if name == "endless body" {
				h.want = succeeds
			}
			h.attempt(t, n, dials)
		})
	}
}

func (h hostile) attempt(t *testing.T, n *Network, dials func() []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), attemptTime)
	defer cancel()
	dials()
	before, start := allocated(), time.Now()
	result, err := post(ctx, t, n, h.url, observer.Redactor{})
	took, after := time.Since(start), allocated()
	n.HTTPClient().CloseIdleConnections()
	if got := outcomeOf(err); got != h.want || err != nil && !strings.Contains(err.Error(), h.says) {
		t.Errorf("%s (%+v, %v), want %s with %q", got, result, err, h.want, h.says)
	}
	if took > attemptTime+2*time.Second {
		t.Errorf("it took %v", took)
	}
	t.Logf("%s after %v, %d KiB", outcomeOf(err), took.Round(time.Millisecond), (after.TotalAlloc-before.TotalAlloc)>>10)
	if bytes := after.TotalAlloc - before.TotalAlloc; bytes > attemptBytes && !h.lasting {
		t.Errorf("it allocated %d KiB", bytes>>10)
	}
	if kept := allocated().HeapAlloc; kept > before.HeapAlloc+attemptBytes {
		t.Errorf("it keeps %d KiB", (kept-before.HeapAlloc)>>10)
	}
	_, to, _ := strings.Cut(h.url, "://")
	for _, asked := range dials() {
		if asked != to {
			t.Errorf("it asked for a connection to %s", asked)
		}
	}
}

// allocated is what was allocated so far, and what of it is in use.
func allocated() (stats runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats
}

// Many at once must not add up to more than what each may take.
func TestMemoryOfManyHostileAnswersIsBounded(t *testing.T) { //nolint:paralleltest // It measures what is allocated meanwhile.
	url := raw(t, func(conn net.Conn) {
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n\r\n")
		forever(conn, strings.Repeat("x", 4096))
	})
	n := loopback(t)
	const lanes = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	for range lanes {
		wg.Go(func() {
			if _, err := post(t.Context(), t, n, url, observer.Redactor{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / lanes; each > 1<<20 {
		t.Errorf("each of %d allocated %d KiB", lanes, each>>10)
	}
	t.Logf("each of %d endless answers allocated %d KiB", lanes, (after.TotalAlloc-before.TotalAlloc)/lanes>>10)
}

// A name that is public when it is looked at and private when it is dialed,
// again and again, through the whole client.
func TestRebindingNamesReachNothing(t *testing.T) {
	t.Parallel()
	address, _ := forbidden(t, "127.0.0.1:0")
	_, port, _ := net.SplitHostPort(address)
	private := []string{"127.0.0.1", "0.0.0.0", "127.255.255.254", "169.254.169.254", "10.0.0.1", "192.168.1.1"}
	n := New(Config{DialTimeout: time.Second})
	n.dialer.Resolver = nameServer(t, func(asked int) []netip.Addr {
		return []netip.Addr{netip.MustParseAddr(private[asked%len(private)])}
	})
	for range 3 * len(private) {
		_, err := post(t.Context(), t, n, "http://rebind.test:"+port, observer.Redactor{})
		if outcomeOf(err) != permanent || !isRefusal(err) {
			t.Errorf("%v, want a permanent refusal", err)
		}
	}
}

// What a receiver asks to be kept or repeated is not.
func TestCookiesAreNeverKept(t *testing.T) {
	t.Parallel()
	a := tlstest.New(t)
	n, _ := watched(t, a)
	if n.HTTPClient().Jar != nil {
		t.Error("there is a cookie jar")
	}
	own, err := n.HTTPClientWith(TLS{ServerName: "receiver.test"})
	if err != nil || own.Jar != nil || own.CheckRedirect == nil {
		t.Errorf("the client for TLS settings is another kind: %v", err)
	}
	transport := own.Transport.(originOnly).next
	if !transport.DisableCompression || transport.Proxy != nil || transport.MaxResponseHeaderBytes == 0 || transport.TLSClientConfig.InsecureSkipVerify {
		t.Error("the transport for TLS settings is another kind")
	}
	if err := own.CheckRedirect(nil, nil); err != http.ErrUseLastResponse { //nolint:errorlint // net/http compares so
		t.Errorf("redirects: %v", err)
	}
}

func TestTimeoutsOfTheNetwork(t *testing.T) {
	t.Parallel()
	still, _ := silent(t)
	tests := map[string]struct {
		cfg  Config
		url  string
		want outcome
		says string
	}{
		"header": {Config{HeaderTimeout: 30 * time.Millisecond}, raw(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) }), unknown, "timeout awaiting response headers"},
		"TLS":    {Config{TLSTimeout: 30 * time.Millisecond}, "https://" + still, passing, "TLS handshake timeout"},
		"dial":   {Config{DialTimeout: 30 * time.Millisecond}, "http://slow.test", passing, "timeout"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Allow = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
			n := New(tt.cfg)
			n.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
				<-ctx.Done() // a name server that says nothing
				return nil, ctx.Err()
			}}
			start := time.Now()
			_, err := post(t.Context(), t, n, tt.url, observer.Redactor{})
			if outcomeOf(err) != tt.want || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s with %q", err, tt.want, tt.says)
			}
			if took := time.Since(start); took > 3*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}
