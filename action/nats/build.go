package nats

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	client "github.com/nats-io/nats.go"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/natsclient"
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
	urls := make([]string, len(servers))
	for i, s := range servers {
		urls[i] = s.URL
	}
	a.redactor = b.redactor
	a.endpoint = outbound.Endpoint(a.redactor, "nats", a.place, "", false)
	a.link = connection.New(opener{urls, options, dial}.open, (*link).close, (*link).alive)
	return a, nil
}

type builder struct {
	cfg      Config
	redactor observer.Redactor
	errs     []error
}

// join adds an error that names its field.
func (b *builder) join(err error) {
	if err != nil {
		b.errs = append(b.errs, err)
	}
}

func (b *builder) check(field string, err error) {
	if err != nil {
		b.errs = append(b.errs, &observer.FieldError{Field: field, Err: err})
	}
}

// servers never repeats the URL in its errors: it is a secret.
func (b *builder) servers() (servers []natsclient.Server, places []string) {
	servers, err := natsclient.Servers(b.cfg.URL)
	b.check("url", err)
	for _, s := range servers {
		b.redactor = b.redactor.With(observer.NewSecret(s.URL), s.Secret)
		places = append(places, s.Place)
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
	login, err := natsclient.Credentials{JWT: b.cfg.Credentials, JWTFile: b.cfg.CredentialsFile}.Option()
	b.join(err)
	if login != nil {
		options = append(options, login)
	}
	return options
}

func (b *builder) encryption(servers []natsclient.Server) client.Option {
	cfg, err := natsclient.Files{CA: b.cfg.CAFile, Cert: b.cfg.CertFile, Key: b.cfg.KeyFile}.TLS()
	b.join(err)
	return natsclient.Encrypt(cfg, len(servers) > 0 && servers[0].TLS)
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
