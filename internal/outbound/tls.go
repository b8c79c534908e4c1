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
)

// TLS is the tls table of an action, or the certificates table of the mail server:
// what verifies the receiver, and what it verifies. Its zero value is none.
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
	encryption, sum, err := t.load("tls", n.cfg.RootCAs)
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

// Config is what a connection other than those of an [http.Client] is encrypted
// with. It reads the files. An invalid setting gives [observer.FieldError]s with the
// name of the table as the prefix, joined.
func (t TLS) Config(table string) (*tls.Config, error) {
	config, _, err := t.load(table, nil)
	return config, err
}

// load also gives a sum of what the files held. Without an authority of its own,
// roots verify the receiver, or those of the system when nil.
func (t TLS) load(table string, roots *x509.CertPool) (*tls.Config, [sha256.Size]byte, error) {
	l := loading{TLS: t, table: table, config: &tls.Config{RootCAs: roots, ServerName: t.ServerName, MinVersion: tls.VersionTLS12}}
	sum := sha256.New()
	var errs []error
	read := func(key, file string) []byte {
		if file == "" {
			return nil
		}
		text, err := os.ReadFile(file) //nolint:gosec // reading the file that the operator names is the task
		errs = append(errs, l.invalid(key, err))
		_, _ = fmt.Fprintf(sum, "%s %d ", key, len(text)) // a hash takes everything
		_, _ = sum.Write(text)
		return text
	}
	ca, cert, key := read("ca", t.CA), read("cert", t.Cert), read("key", t.Key)
	if err := errors.Join(errs...); err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	if err := errors.Join(l.trust(ca), l.present(cert, key)); err != nil {
		return nil, [sha256.Size]byte{}, err
	}
	return l.config, [sha256.Size]byte(sum.Sum(nil)), nil
}

// loading is a configuration in the making.
type loading struct {
	TLS

	table  string
	config *tls.Config
}

func (l loading) invalid(key string, err error) error {
	return Invalid(l.table+"."+key, err)
}

// trust has the receiver verified by the authorities of a file.
func (l loading) trust(ca []byte) error {
	if l.CA == "" {
		return nil
	}
	l.config.RootCAs = x509.NewCertPool()
	if !l.config.RootCAs.AppendCertsFromPEM(ca) {
		return l.invalid("ca", fmt.Errorf("%s holds no certificate in PEM form", l.CA))
	}
	return nil
}

// present has a client certificate shown.
func (l loading) present(cert, key []byte) error {
	switch {
	case l.Cert == "" && l.Key == "":
		return nil
	case l.Cert == "":
		return l.invalid("cert", errors.New("is required with key"))
	case l.Key == "":
		return l.invalid("key", errors.New("is required with cert"))
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return l.invalid("cert", fmt.Errorf("%s and %s are not a certificate and its unencrypted key in PEM form: %w", l.Cert, l.Key, err))
	}
	l.config.Certificates = []tls.Certificate{pair}
	return nil
}
