package nats

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strings"

	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// New makes an action that connects by dial when it first runs. An invalid
// configuration gives [observer.FieldError]s, joined.
func New(cfg Config, dial connection.Dial) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, redactor: cfg.Redactor.With(cfg.URL, cfg.Credentials)}
	servers, places := b.servers()
	options := append(b.options(), b.encryption(servers))
	a := &Action{
		subject: b.subject(templates), body: b.body(templates), jetStream: b.jetStream(),
		place: strings.Join(places, ","),
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	a.redactor = b.redactor
	a.endpoint = outbound.Endpoint(a.redactor, "nats", a.place, "", false)
	a.link = connection.New(opener{servers, options, dial}.open, (*link).close, (*link).alive)
	return a, nil
}

type builder struct {
	cfg      Config
	redactor observer.Redactor
	errs     []error
}

func (b *builder) check(field string, err error) {
	if err != nil {
		b.errs = append(b.errs, &observer.FieldError{Field: field, Err: err})
	}
}

// servers never repeats the URL in its errors: it is a secret.
func (b *builder) servers() (servers, places []string) {
	if b.cfg.URL.IsZero() {
		b.check("url", errors.New("is required"))
	}
	for server := range strings.SplitSeq(b.cfg.URL.Reveal(), ",") {
		if server = strings.TrimSpace(server); server == "" {
			continue
		}
		u, err := url.Parse(server)
		if err != nil || u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "" {
			b.check("url", errors.New("is not the URL of a NATS server (nats://host:4222, or tls://host:4222)"))
			continue
		}
		password, _ := u.User.Password()
		// A user without a password is a token.
		b.redactor = b.redactor.With(observer.NewSecret(server), observer.NewSecret(cmp.Or(password, u.User.Username())))
		servers = append(servers, server)
		places = append(places, net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "4222")))
	}
	return servers, places
}

// options are those of the client. One that lost its server is replaced by a new
// one: to reconnect by itself it would keep messages that were given up here.
func (b *builder) options() []client.Option {
	options := []client.Option{
		client.Name("fraiseql-observer"), client.NoReconnect(), client.SkipHostLookup(),
		client.IgnoreDiscoveredServers(), client.Timeout(connectTime),
	}
	switch {
	case b.cfg.CredentialsFile != "" && !b.cfg.Credentials.IsZero():
		b.check("credentials_file", errors.New("means the same as credentials; set one of them"))
	case !b.cfg.Credentials.IsZero():
		options = append(options, client.UserCredentialBytes([]byte(b.cfg.Credentials.Reveal())))
	case b.cfg.CredentialsFile != "":
		_, err := os.Stat(b.cfg.CredentialsFile)
		b.check("credentials_file", err)
		options = append(options, client.UserCredentials(b.cfg.CredentialsFile))
	}
	return options
}

func (b *builder) encryption(servers []string) client.Option {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if b.cfg.CAFile != "" {
		pem, err := os.ReadFile(b.cfg.CAFile)
		b.check("ca_file", err)
		cfg.RootCAs = x509.NewCertPool()
		if err == nil && !cfg.RootCAs.AppendCertsFromPEM(pem) {
			b.check("ca_file", errors.New("has no certificate"))
		}
	}
	switch {
	case b.cfg.CertFile != "" && b.cfg.KeyFile != "":
		pair, err := tls.LoadX509KeyPair(b.cfg.CertFile, b.cfg.KeyFile)
		b.check("cert_file", err)
		cfg.Certificates = []tls.Certificate{pair}
	case b.cfg.CertFile != "":
		b.check("key_file", errors.New("is required with cert_file"))
	case b.cfg.KeyFile != "":
		b.check("cert_file", errors.New("is required with key_file"))
	}
	return func(o *client.Options) error {
		// A server that asks for TLS gets it in any case.
		o.TLSConfig = cfg
		o.Secure = len(servers) > 0 && strings.HasPrefix(servers[0], "tls:")
		return nil
	}
}

func (b *builder) subject(templates *template.Compiler) *template.Template {
	if b.cfg.Subject == "" {
		b.check("subject", errors.New("is required"))
		return nil
	}
	t, err := templates.CompileEscaped(b.cfg.Subject, "subject", encodeToken)
	if err == nil && t.Static() {
		err = checkSubject(b.cfg.Subject)
	}
	b.check("subject", err)
	return t
}

func (b *builder) body(templates *template.Compiler) *template.Template {
	if b.cfg.BodyTemplate == "" {
		return nil
	}
	t, err := templates.Compile(b.cfg.BodyTemplate, template.JSON)
	b.check("body_template", err)
	return t
}

func (b *builder) jetStream() bool {
	ack := cmp.Or(b.cfg.Ack, ackJetStream)
	if ack != ackJetStream && ack != ackNone {
		b.check("ack", fmt.Errorf("%q is neither %s nor %s", b.cfg.Ack, ackJetStream, ackNone))
	}
	return ack == ackJetStream
}

// encodeToken keeps a value in its token of a subject.
func encodeToken(value string) (string, error) {
	if value == "" {
		return "", errors.New("the value is empty, and a subject has no empty tokens")
	}
	return percent(value, "-_"), nil
}

// percent leaves letters, digits and the given characters, and percent-encodes
// every other byte.
func percent(text, plain string) string {
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte(plain, c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// checkSubject refuses what nobody could subscribe to, wildcards, and the
// subjects of the server itself.
func checkSubject(subject string) error {
	if strings.ContainsFunc(subject, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("a subject has no blanks and no control characters")
	}
	if strings.HasPrefix(subject, "$") {
		return errors.New("subjects that begin with $ belong to the server")
	}
	for token := range strings.SplitSeq(subject, ".") {
		switch token {
		case "":
			return errors.New("a subject has no empty tokens")
		case "*", ">":
			return errors.New("nothing can be published to a wildcard")
		}
	}
	return nil
}
