// Package natsclient turns what configurations say about a NATS server into
// options of its client: addresses, encryption and credentials. It opens
// nothing.
package natsclient

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"os"
	"strings"

	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
)

// Server is one of the servers of a cluster.
type Server struct {
	// URL is as it was written and may have a password in it; Place is its host
	// and port.
	URL, Place string
	Host       string
	TLS        bool
	// Secret is the password or token in the URL.
	Secret observer.Secret
}

// Servers reads URLs that are separated by commas and alike in their scheme. It
// never repeats one in its error: they are secrets.
func Servers(urls observer.Secret) ([]Server, error) {
	if strings.TrimSpace(urls.Reveal()) == "" {
		return nil, errors.New("is required")
	}
	var servers []Server
	for text := range strings.SplitSeq(urls.Reveal(), ",") {
		text = strings.TrimSpace(text)
		u, err := url.Parse(text)
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" {
			return nil, errors.New("is not the URL of a NATS server (nats://host:4222, or tls://host:4222; several with commas)")
		}
		if u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
			return nil, errors.New("must end after the host and the port (characters other than letters and digits in user and password are written %XX)")
		}
		password, _ := u.User.Password()
		servers = append(servers, Server{
			URL: text, Host: u.Hostname(), TLS: u.Scheme == "tls",
			Place: net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222")),
			// A user without a password is a token.
			Secret: observer.NewSecret(cmp.Or(password, u.User.Username())),
		})
		if servers[len(servers)-1].TLS != servers[0].TLS {
			return nil, errors.New("has both nats:// and tls:// servers; write one of them for all")
		}
	}
	return servers, nil
}

// Exposed are the places that would be reached over a network without encryption.
// encrypted says that the connection is whatever the scheme.
func Exposed(servers []Server, encrypted bool) []string {
	var places []string
	for _, s := range servers {
		if !s.TLS && !encrypted && !loopback(s.Host) {
			places = append(places, s.Place)
		}
	}
	return places
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}

// Files are PEM files for encryption: CA verifies the server instead of the
// system's authorities, Cert and Key are shown to it. ServerName is the name that
// its certificate must have; that of the URL when "".
type Files struct{ CA, Cert, Key, ServerName string }

// TLS is a configuration of a client. Errors are [observer.FieldError]s, joined.
func (f Files) TLS() (*tls.Config, error) {
	var errs []error
	cfg := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.ServerName}
	if f.CA != "" {
		pem, err := os.ReadFile(f.CA)
		cfg.RootCAs = x509.NewCertPool()
		if err == nil && !cfg.RootCAs.AppendCertsFromPEM(pem) {
			err = errors.New("has no certificate")
		}
		errs = append(errs, wrap("ca_file", err))
	}
	switch {
	case f.Cert != "" && f.Key != "":
		pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
		errs = append(errs, wrap("cert_file", err))
		cfg.Certificates = []tls.Certificate{pair}
	case f.Cert != "":
		errs = append(errs, field("key_file", "is required with cert_file"))
	case f.Key != "":
		errs = append(errs, field("cert_file", "is required with key_file"))
	}
	return cfg, errors.Join(errs...)
}

// Encrypt makes a client use a configuration: always when it is required, else
// when the server asks for it.
func Encrypt(cfg *tls.Config, required bool) client.Option {
	return func(o *client.Options) error {
		o.TLSConfig = cfg
		o.Secure = required
		return nil
	}
}

func field(name, text string) error {
	return &observer.FieldError{Field: name, Err: errors.New(text)}
}

func wrap(name string, err error) error {
	if err == nil {
		return nil
	}
	return &observer.FieldError{Field: name, Err: err}
}
