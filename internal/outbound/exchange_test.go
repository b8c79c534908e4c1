package outbound

import (
	"context"
	"crypto/x509"
	"errors"
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

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL
}

// post makes one exchange the way an action does.
func post(ctx context.Context, t *testing.T, n *Network, url string, redactor observer.Redactor) (observer.Result, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader("body"))
	if err != nil {
		t.Fatal(err)
	}
	return Exchange(n.HTTPClient(), req, redactor)
}

// hangUp cuts the connection instead of answering.
func hangUp(w http.ResponseWriter, _ *http.Request) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			_ = conn.Close()
		}
	}
}

func TestExchangeJudgesTheStatus(t *testing.T) {
	t.Parallel()
	const transient, permanent, gone = observer.ReasonExhausted, observer.ReasonPermanent, observer.ReasonGone
	tests := []struct {
		status int
		reason observer.Reason // "" for success
	}{
		{200, ""}, {201, ""}, {202, ""}, {204, ""}, {299, ""},
		{300, permanent}, {301, permanent}, {302, permanent}, {303, permanent},
		{304, permanent}, {307, permanent}, {308, permanent},
		{400, permanent}, {401, permanent}, {403, permanent}, {404, permanent}, {405, permanent},
		{409, permanent}, {411, permanent}, {413, permanent}, {422, permanent}, {451, permanent},
		{410, gone},
		{408, transient}, {425, transient}, {429, transient},
		{500, transient}, {501, transient}, {502, transient}, {503, transient}, {504, transient}, {599, transient},
	}
	n := loopback(t)
	for _, tt := range tests {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(tt.status) })
		result, err := post(t.Context(), t, n, url+"/secret/path?token=1", observer.Redactor{})
		if result.Status != tt.status {
			t.Errorf("status %d, want %d", result.Status, tt.status)
		}
		if tt.reason == "" {
			if err != nil {
				t.Errorf("%d: %v, want success", tt.status, err)
			}
			continue
		}
		if err == nil || observer.ReasonOf(err) != tt.reason || observer.Retryable(err) != (tt.reason == transient) {
			t.Errorf("%d: %v (reason %s), want reason %s", tt.status, err, observer.ReasonOf(err), tt.reason)
		}
		if observer.IsOutcomeUnknown(err) {
			t.Errorf("%d: the outcome is unknown although there is an answer", tt.status)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "POST "+url)) {
			t.Errorf("%d: %q should name the server and nothing more", tt.status, err)
		}
	}
}

func TestExchangeHonoursRetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		status int
		value  string
		want   time.Duration
	}{
		{429, "30", 30 * time.Second}, {503, "7", 7 * time.Second}, {500, "5", 5 * time.Second},
		{408, "2", 2 * time.Second}, {425, "3", 3 * time.Second},
		{429, "garbage", 0}, {429, "-5", 0}, {429, "", 0}, {400, "30", 0}, {410, "30", 0}, {200, "30", 0},
	}
	n := loopback(t)
	for _, tt := range tests {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", tt.value)
			w.WriteHeader(tt.status)
		})
		_, err := post(t.Context(), t, n, url, observer.Redactor{})
		if wait, _ := observer.RetryAfterOf(err); wait != tt.want {
			t.Errorf("%d with Retry-After %q: wait %v, want %v", tt.status, tt.value, wait, tt.want)
		}
	}
}

func TestRedirectsAreNotFollowed(t *testing.T) {
	t.Parallel()
	var followed atomic.Bool
	target := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	n := loopback(t)
	tests := []struct{ location, want string }{
		{target + "/admin?token=hidden", "to " + target + " (redirects"},
		{"/admin?token=hidden", "(redirects are not followed: configure the final URL)"},
		{"http://169.254.169.254/latest/hidden", "to http://169.254.169.254 (redirects"},
		{"http://[::1/hidden%zz", "(redirects are not followed)"},
		{"", "(redirects are not followed)"},
	}
	for _, tt := range tests {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", tt.location)
			w.WriteHeader(http.StatusTemporaryRedirect)
		})
		result, err := post(t.Context(), t, n, url, observer.Redactor{})
		if result.Status != 307 || observer.Retryable(err) || err == nil {
			t.Fatalf("Location %q: status %d, %v", tt.location, result.Status, err)
		}
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("Location %q: %q, want %q in it and nothing of the path", tt.location, err, tt.want)
		}
	}
	if followed.Load() {
		t.Error("a redirect was followed")
	}
}

func TestNetworkFailuresAreTransient(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = closed.Close()
	reset := serve(t, hangUp)
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = discard()
	t.Cleanup(untrusted.Close)
	n := loopback(t)
	for name, url := range map[string]string{
		"connection refused":      "http://" + closed.Addr().String(),
		"connection cut":          reset,
		"unverified certificate":  untrusted.URL,
		"no TLS on the other end": strings.Replace(reset, "http:", "https:", 1),
	} {
		_, err := post(t.Context(), t, n, url+"/hidden?token=hidden", observer.Redactor{})
		if err == nil || !observer.Retryable(err) {
			t.Errorf("%s: %v, want a transient error", name, err)
		}
		if err != nil && strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: the URL shows in %q", name, err)
		}
	}
}

func TestRefusedAddressIsPermanent(t *testing.T) {
	t.Parallel()
	var called atomic.Bool
	url := serve(t, func(http.ResponseWriter, *http.Request) { called.Store(true) })
	_, err := post(t.Context(), t, New(Config{}), url, observer.Redactor{})
	if observer.ReasonOf(err) != observer.ReasonPermanent || !errors.Is(err, ErrRefused) {
		t.Errorf("%v, want a permanent refusal", err)
	}
	if err != nil && !strings.Contains(err.Error(), "address refused: 127.0.0.1 is loopback; add it to [network] allow") {
		t.Errorf("%q does not say what to do", err)
	}
	if called.Load() {
		t.Error("the receiver was called")
	}
}

func TestTLSIsVerifiedAgainstTheRoots(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.TLS.Version < 0x0303 {
			w.WriteHeader(http.StatusTeapot)
		}
	}))
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	n := New(Config{Allow: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, RootCAs: roots})
	t.Cleanup(n.HTTPClient().CloseIdleConnections)
	if _, err := post(t.Context(), t, n, server.URL, observer.Redactor{}); err != nil {
		t.Errorf("with its certificate trusted: %v", err)
	}
}

func TestSecretsAreRedactedFromAnswersAndErrors(t *testing.T) {
	t.Parallel()
	url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte("bad token hunter2hunter2"))
	})
	redactor := observer.NewRedactor(observer.NewSecret("hunter2hunter2"))
	result, err := post(t.Context(), t, loopback(t), url+"/hunter2hunter2", redactor)
	if result.Detail != "bad token [redacted]" || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("detail %q, error %q", result.Detail, err)
	}
}
