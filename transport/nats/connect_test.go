package nats

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestPlaintextToAnotherHostIsRefused(t *testing.T) {
	t.Parallel()
	for url, refused := range map[string]string{
		"nats://db.example.com:4222":                  "write tls://db.example.com:4222, or allow_plaintext = true",
		"nats://127.0.0.1:1,nats://10.0.0.1":          "10.0.0.1:4222 is not encrypted",
		"nats://s3cret:pass-w0rd@[2001:db8::1]:4222":  "[2001:db8::1]:4222",
		"tls://a.example.com,nats://localhost":        "both nats:// and tls://",
		"http://x":                                    "is not the URL",
		"wss://a.example.com":                         "is not the URL",
		"":                                            "is required",
		"nats://localhost:1, nats://[::1]:2":          "",
		"tls://10.0.0.1:4222,tls://b.example.com:443": "",
	} {
		c := &Conn{}
		_, _, err := c.options(Config{URL: observer.NewSecret(url)})
		if (err != nil) != (refused != "") || err != nil && !strings.Contains(err.Error(), refused) {
			t.Errorf("%q: %v, want %q", url, err, refused)
		}
		if err != nil && (strings.Contains(err.Error(), "s3cret") || strings.Contains(err.Error(), "pass-w0rd")) {
			t.Errorf("%v has a secret", err)
		}
		if _, _, err := c.options(Config{URL: observer.NewSecret(url), AllowPlaintext: true}); strings.Contains(refused, "allow_plaintext") && err != nil {
			t.Errorf("%q, allowed: %v", url, err)
		}
	}
	_, err := Connect(t.Context(), Config{URL: observer.NewSecret("nats://10.0.0.1")})
	if err == nil || observer.Retryable(err) {
		t.Errorf("%v, want a permanent error", err)
	}
}

func seed(t *testing.T) (seed, public string) {
	t.Helper()
	pair, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	secret, err := pair.Seed()
	if err != nil {
		t.Fatal(err)
	}
	if public, err = pair.PublicKey(); err != nil {
		t.Fatal(err)
	}
	return string(secret), public
}

func TestLogin(t *testing.T) {
	t.Parallel()
	secret, public := seed(t)
	file := filepath.Join(t.TempDir(), "seed")
	if err := os.WriteFile(file, []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	users := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: fmt.Sprintf(
		"authorization { users: [ { user: alice, password: \"s3cret-word\" }, { nkey: %s } ] }", public)})
	token := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: `authorization { token: "s3cret-token" }`})
	other, _ := seed(t)
	tests := map[string]struct {
		cfg Config
		ok  bool
	}{
		"user":             {Config{URL: observer.NewSecret(users.URL()), User: "alice", Password: observer.NewSecret("s3cret-word")}, true},
		"user in the URL":  {Config{URL: observer.NewSecret(strings.Replace(users.URL(), "//", "//alice:s3cret-word@", 1))}, true},
		"nkey":             {Config{URL: observer.NewSecret(users.URL()), NKeySeed: observer.NewSecret(secret)}, true},
		"nkey in a file":   {Config{URL: observer.NewSecret(users.URL()), NKeySeedFile: file}, true},
		"token":            {Config{URL: observer.NewSecret(token.URL()), Token: observer.NewSecret("s3cret-token")}, true},
		"wrong password":   {Config{URL: observer.NewSecret(users.URL()), User: "alice", Password: observer.NewSecret("s3cret-guess")}, false},
		"wrong nkey":       {Config{URL: observer.NewSecret(users.URL()), NKeySeed: observer.NewSecret(other)}, false},
		"not a seed":       {Config{URL: observer.NewSecret(users.URL()), NKeySeed: observer.NewSecret("s3cret-x")}, false},
		"no file":          {Config{URL: observer.NewSecret(users.URL()), CredentialsFile: file + "-missing"}, false},
		"two ways":         {Config{URL: observer.NewSecret(users.URL()), User: "alice", Token: observer.NewSecret("s3cret-x")}, false},
		"a password alone": {Config{URL: observer.NewSecret(users.URL()), Password: observer.NewSecret("s3cret-x")}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			tt.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
			conn, err := Connect(t.Context(), tt.cfg)
			if (err == nil) != tt.ok {
				t.Fatal(err)
			}
			if err == nil {
				ensured(t, conn, StreamConfig{})
				_ = conn.Close()
			}
			if text := fmt.Sprint(err, log.String()); strings.Contains(text, "s3cret") || strings.Contains(text, secret) {
				t.Errorf("a secret is in %s", text)
			}
		})
	}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority, and
// returns the files of it and its key.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	return certificateOf(t, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})
}

// certificateOf makes one with the names of subject.
func certificateOf(t *testing.T, subject x509.Certificate) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotAfter: time.Now().Add(time.Hour), IsCA: true,
		BasicConstraintsValid: true, IPAddresses: subject.IPAddresses, DNSNames: subject.DNSNames, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	err = errors.Join(
		os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600),
		os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}), 0o600))
	if err != nil {
		t.Fatal(err)
	}
	return cert, key
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	strange, strangeKey := certificate(t)
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, cert)})
	url := strings.Replace(server.URL(), "nats:", "tls:", 1)
	plain := strings.Replace(testenv.PlainNATS(t), "nats:", "tls:", 1)
	tests := map[string]struct {
		cfg Config
		ok  bool
	}{
		"both verified":           {Config{URL: observer.NewSecret(url), CAFile: cert, CertFile: cert, KeyFile: key}, true},
		"another authority":       {Config{URL: observer.NewSecret(url), CAFile: strange, CertFile: cert, KeyFile: key}, false},
		"system's authorities":    {Config{URL: observer.NewSecret(url), CertFile: cert, KeyFile: key}, false},
		"no client certificate":   {Config{URL: observer.NewSecret(url), CAFile: cert}, false},
		"strange certificate":     {Config{URL: observer.NewSecret(url), CAFile: cert, CertFile: strange, KeyFile: strangeKey}, false},
		"a key is missing":        {Config{URL: observer.NewSecret(url), CAFile: cert, CertFile: cert}, false},
		"no certificate in it":    {Config{URL: observer.NewSecret(url), CAFile: key}, false},
		"server without TLS":      {Config{URL: observer.NewSecret(plain), CAFile: cert}, false},
		"asked for by the server": {Config{URL: observer.NewSecret(server.URL()), CAFile: cert, CertFile: cert, KeyFile: key}, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Logger = slog.New(slog.DiscardHandler)
			conn, err := Connect(t.Context(), tt.cfg)
			if (err == nil) != tt.ok {
				t.Errorf("%v, want that it works: %v", err, tt.ok)
			}
			if err == nil {
				_ = conn.Close()
			}
		})
	}
}

// The certificate of the server must have the name that is given, which need not be
// that of the URL, and its key encrypts like those of files.
func TestServerName(t *testing.T) {
	t.Parallel()
	cert, key := certificateOf(t, x509.Certificate{DNSNames: []string{"nats.internal"}})
	server := testenv.PrivateNATS(t, testenv.NATSOptions{Settings: fmt.Sprintf("tls { cert_file: %q, key_file: %q }", cert, key)})
	url := strings.Replace(server.URL(), "nats:", "tls:", 1)
	for name, tt := range map[string]struct {
		cfg Config
		ok  bool
	}{
		"its name":            {Config{URL: observer.NewSecret(url), CAFile: cert, ServerName: "nats.internal"}, true},
		"its name, by nats:":  {Config{URL: observer.NewSecret(server.URL()), CAFile: cert, ServerName: "nats.internal"}, true},
		"another name":        {Config{URL: observer.NewSecret(url), CAFile: cert, ServerName: "other.internal"}, false},
		"that of the URL":     {Config{URL: observer.NewSecret(url), CAFile: cert}, false},
		"a server without it": {Config{URL: observer.NewSecret(testenv.PlainNATS(t)), ServerName: "nats.internal"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.cfg.Logger = slog.New(slog.DiscardHandler)
			conn, err := Connect(t.Context(), tt.cfg)
			if (err == nil) != tt.ok {
				t.Errorf("%v, want that it works: %v", err, tt.ok)
			}
			if err == nil {
				_ = conn.Close()
			}
		})
	}
}

func TestClosedConnectionSaysSo(t *testing.T) {
	t.Parallel()
	conn := connect(t, testenv.NATS(t))
	s := ensured(t, conn, StreamConfig{})
	p := newPublisher(t, s)
	publish(t, p, events(1, 1))
	for range 2 {
		if err := conn.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := p.HandleBatch(t.Context(), events(2, 2)); err == nil {
		t.Error("a closed connection publishes")
	}
}
