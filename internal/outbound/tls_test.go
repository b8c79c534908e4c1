package outbound

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/tlstest"
)

// settingsOf show a certificate to receivers that the authority vouches for.
func settingsOf(a *tlstest.Authority, dir string, cert tls.Certificate) TLS {
	files := a.Files(dir, cert)
	return TLS{CA: files.CA, Cert: files.Cert, Key: files.Key}
}

// exchange is one request with the TLS settings, made the way an action does.
func exchange(t *testing.T, n *Network, settings TLS, url string) (observer.Result, error) {
	t.Helper()
	client, err := n.HTTPClientWith(settings)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	return send(t.Context(), t, client, url, "body")
}

func TestOwnAuthorityAndCertificate(t *testing.T) {
	t.Parallel()
	ours, theirs := tlstest.New(t), tlstest.New(t)
	cert := ours.Issue("receiver.test", time.Hour, tlstest.Loopback())
	open, closed := ours.Server(cert, nil), ours.Server(cert, ours.Pool())
	settings := settingsOf(ours, t.TempDir(), ours.Issue("shop", time.Hour))
	foreign := settingsOf(theirs, t.TempDir(), theirs.Issue("thief", time.Hour))
	ca := TLS{CA: settings.CA}
	tests := map[string]struct {
		url      string
		settings TLS
		want     string // what it answers, or what the error says
	}{
		"unknown authority":               {open, TLS{}, "certificate signed by unknown authority"},
		"own authority":                   {open, ca, ""},
		"another authority":               {open, TLS{CA: foreign.CA}, "certificate signed by unknown authority"},
		"certificate where none is asked": {open, settings, ""},
		"own certificate":                 {closed, settings, "shop"},
		// How a server tells it depends on whether it was writing already.
		"no certificate":                        {closed, ca, "POST https"},
		"certificate of another":                {closed, TLS{CA: settings.CA, Cert: foreign.Cert, Key: foreign.Key}, "POST https"},
		"the name it must have":                 {open, TLS{CA: settings.CA, ServerName: "receiver.test"}, ""},
		"a name it does not have":               {open, TLS{CA: settings.CA, ServerName: "other.test"}, "not other.test"},
		"no authority but that of the settings": {"https://127.0.0.1:1", TLS{CA: settings.CA}, "connection refused"},
	}
	n := loopback(t)
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result, err := exchange(t, n, tt.settings, tt.url)
			if result.Status == 200 {
				if err != nil || result.Detail != tt.want {
					t.Errorf("%+v, %v, want %q", result, err, tt.want)
				}
				return
			}
			if err == nil || !observer.Retryable(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want a transient error with %q", err, tt.want)
			}
		})
	}
}

func TestConnectionsBelongToTheirSettings(t *testing.T) {
	t.Parallel()
	a := tlstest.New(t)
	url := a.Server(a.Issue("receiver.test", time.Hour, tlstest.Loopback()), a.Pool())
	n := loopback(t)
	ann, bob := settingsOf(a, t.TempDir(), a.Issue("ann", time.Hour)), settingsOf(a, t.TempDir(), a.Issue("bob", time.Hour))
	clients := map[*http.Client]bool{n.HTTPClient(): true}
	for range 3 {
		for want, settings := range map[string]TLS{"ann": ann, "bob": bob} {
			if result, err := exchange(t, n, settings, url); err != nil || result.Detail != want {
				t.Errorf("%+v, %v, want to be known as %s", result, err, want)
			}
			client, _ := n.HTTPClientWith(settings)
			clients[client] = true
		}
	}
	if len(clients) != 3 {
		t.Errorf("%d clients, want that of all, and one for each setting", len(clients))
	}
	if shared, err := n.HTTPClientWith(TLS{}); shared != n.HTTPClient() || err != nil {
		t.Errorf("without settings it is not the client of all: %v", err)
	}
}

func TestRenewedCertificateIsReadAgain(t *testing.T) {
	t.Parallel()
	a := tlstest.New(t)
	url := a.Server(a.Issue("receiver.test", time.Hour, tlstest.Loopback()), a.Pool())
	n, dir := loopback(t), t.TempDir()
	settings := settingsOf(a, dir, a.Issue("old", time.Hour))
	old, err := n.HTTPClientWith(settings)
	if err != nil {
		t.Fatal(err)
	}
	if result, err := exchange(t, n, settings, url); err != nil || result.Detail != "old" {
		t.Fatalf("%+v, %v", result, err)
	}
	settingsOf(a, dir, a.Issue("new", time.Hour))
	if result, err := exchange(t, n, settings, url); err != nil || result.Detail != "new" {
		t.Errorf("%+v, %v, want the renewed certificate", result, err)
	}
	// What was built before goes on with what it read.
	if result, err := send(t.Context(), t, old, url, "body"); err != nil || result.Detail != "old" {
		t.Errorf("%+v, %v, want the certificate of before", result, err)
	}
	old.CloseIdleConnections()
	if len(n.clients) != 1 {
		t.Errorf("%d clients are kept", len(n.clients))
	}
}

func TestInvalidTLSSettings(t *testing.T) {
	t.Parallel()
	a, dir := tlstest.New(t), t.TempDir()
	good := settingsOf(a, dir, a.Issue("shop", time.Hour))
	other := settingsOf(a, t.TempDir(), a.Issue("shop", time.Hour))
	junk := filepath.Join(dir, "junk.pem")
	if err := os.WriteFile(junk, []byte("s3cret junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.pem")
	for name, tt := range map[string]struct {
		settings TLS
		fields   []string
		want     string
	}{
		"no such files":      {TLS{CA: missing, Cert: missing, Key: missing}, []string{"tls.ca", "tls.cert", "tls.key"}, "missing.pem"},
		"a directory":        {TLS{CA: dir}, []string{"tls.ca"}, "directory"},
		"no certificate":     {TLS{CA: junk}, []string{"tls.ca"}, "junk.pem holds no certificate"},
		"no pair":            {TLS{Cert: junk, Key: junk}, []string{"tls.cert"}, "junk.pem"},
		"another's key":      {TLS{Cert: good.Cert, Key: other.Key}, []string{"tls.cert"}, "does not match"},
		"only a certificate": {TLS{Cert: good.Cert}, []string{"tls.key"}, "is required with cert"},
		"only a key":         {TLS{Key: good.Key}, []string{"tls.cert"}, "is required with key"},
		"both wrong":         {TLS{CA: junk, Key: good.Key}, []string{"tls.ca", "tls.cert"}, "holds no certificate"},
	} {
		client, err := loopback(t).HTTPClientWith(tt.settings)
		if client != nil || err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		for _, field := range tt.fields {
			if err == nil || !strings.Contains(err.Error(), field) {
				t.Errorf("%s: %v, want an error of %s", name, err, field)
			}
		}
		if _, ok := errors.AsType[*observer.FieldError](err); !ok {
			t.Errorf("%s: %T is about no key", name, err)
		}
	}
}

func TestFilesAreRelativeToADirectory(t *testing.T) {
	t.Parallel()
	whole := filepath.Join(t.TempDir(), "key.pem")
	settings := TLS{CA: "tls/ca.pem", Key: whole}
	settings.In("/etc/observer")
	if settings.CA != filepath.Join("/etc/observer", "tls", "ca.pem") || settings.Cert != "" || settings.Key != whole {
		t.Errorf("%+v", settings)
	}
}
