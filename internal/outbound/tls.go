package outbound

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"

	"github.com/fraiseql/observer"
)

// TLS is the tls table of an action that calls an HTTPS receiver: what verifies
// it, and what it verifies. Its zero value is none.
type TLS struct {
	// CA is a PEM file with the certificates of the authorities that may vouch for
	// the receiver, in place of those of the system.
	CA string `toml:"ca"`
	// Cert and Key are PEM files with the client certificate, followed by those
	// between it and its authority, and its private key: both or none.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// ServerName is the name that the certificate of the receiver must have;
	// that of the URL unless set.
	ServerName string `toml:"server_name"`
}

// IsZero reports whether nothing is set.
func (t TLS) IsZero() bool { return t == TLS{} }

// In makes relative names of files relative to dir.
func (t *TLS) In(dir string) {
	for _, file := range []*string{&t.CA, &t.Cert, &t.Key} {
		if *file != "" && !filepath.IsAbs(*file) {
			*file = filepath.Join(dir, *file)
		}
	}
}

// ownClient is a client with TLS settings, and what its files held.
type ownClient struct {
	client *http.Client
	sum    [sha256.Size]byte
}

// HTTPClientWith is the client for actions with these TLS settings, like
// [Network.HTTPClient] otherwise; actions with the same settings share its
// connections. It reads the files: a later call gives another client when they
// hold something else, as after a certificate was renewed. An invalid setting gives
// [observer.FieldError]s with the prefix "tls.", joined.
func (n *Network) HTTPClientWith(t TLS) (*http.Client, error) {
	if t.IsZero() {
		return n.client, nil
	}
	encryption, sum, err := n.load(t)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	own, there := n.clients[t]
	if there && own.sum == sum {
		return own.client, nil
	}
	if there { // what still uses it goes on, and its last connections time out
		own.client.CloseIdleConnections()
	}
	own = ownClient{n.newClient(encryption), sum}
	n.clients[t] = own
	return own.client, nil
}

func (n *Network) load(t TLS) (*tls.Config, [sha256.Size]byte, error) {
	config := &tls.Config{RootCAs: n.cfg.RootCAs, ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	sum := sha256.New()
	var errs []error
	read := func(field, file string) []byte {
		if file == "" {
			return nil
		}
		text, err := os.ReadFile(file) //nolint:gosec // reading the file that the operator names is the task
		errs = append(errs, invalid(field, err))
		_, _ = fmt.Fprintf(sum, "%s %d ", field, len(text)) // a hash takes everything
		_, _ = sum.Write(text)
		return text
	}
	ca, cert, key := read("tls.ca", t.CA), read("tls.cert", t.Cert), read("tls.key", t.Key)
	if err := errors.Join(errs...); err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	err := errors.Join(trust(config, t, ca), present(config, t, cert, key))
	return config, [sha256.Size]byte(sum.Sum(nil)), err
}

func invalid(field string, err error) error {
	if err == nil {
		return nil
	}
	return &observer.FieldError{Field: field, Err: err}
}

// trust has config verify the receiver by the authorities of a file.
func trust(config *tls.Config, t TLS, ca []byte) error {
	if t.CA == "" {
		return nil
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(ca) {
		return invalid("tls.ca", fmt.Errorf("%s holds no certificate in PEM form", t.CA))
	}
	return nil
}

// present has config show a client certificate.
func present(config *tls.Config, t TLS, cert, key []byte) error {
	switch {
	case t.Cert == "" && t.Key == "":
		return nil
	case t.Cert == "":
		return invalid("tls.cert", errors.New("is required with key"))
	case t.Key == "":
		return invalid("tls.key", errors.New("is required with cert"))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return invalid("tls.cert", fmt.Errorf("%s and %s are not a certificate and its unencrypted key in PEM form: %w", t.Cert, t.Key, err))
	}
	config.Certificates = []tls.Certificate{pair}
	return nil
}
