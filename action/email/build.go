package email

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// The values of the tls key.
const (
	startTLS    = "starttls"
	implicitTLS = "tls"
	noTLS       = "none"
)

// New makes an action that sends through server, reached by dial. An invalid
// configuration gives [observer.FieldError]s, joined; those of the server have
// the prefix "smtp.".
func New(cfg Config, server Server, dial Dial) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, templates: templates}
	a := &Action{
		server: b.server(server), encryption: b.encryption(server), dial: dial, redactor: cfg.Redactor.With(credentials(server)...),
		addresses: b.addresses(server), subject: b.subject(),
	}
	a.endpoint = outbound.Endpoint(a.redactor, "email", a.server.address(), "", false)
	a.text, a.html = b.bodies()
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	return a, nil
}

// credentials are the password, and what of it crosses the wire when signing in:
// a server may repeat a line that it does not understand.
func credentials(s Server) []observer.Secret {
	password := s.Password.Reveal()
	if password == "" {
		return nil
	}
	encoded := func(text string) observer.Secret {
		return observer.NewSecret(base64.StdEncoding.EncodeToString([]byte(text)))
	}
	return append(outbound.Forms(s.Password), encoded(password), encoded("\x00"+s.Username+"\x00"+password))
}

// builder turns a configuration into the parts of an action and collects
// everything that is wrong with it.
type builder struct {
	cfg       Config
	templates *template.Compiler
	errs      []error
}

func (b *builder) fail(field, format string, args ...any) {
	b.errs = append(b.errs, &observer.FieldError{Field: field, Err: fmt.Errorf(format, args...)})
}

func (b *builder) compile(field, src string, kind template.Kind) *template.Template {
	t, err := b.templates.Compile(src, kind)
	if err != nil {
		b.fail(field, "%w", err)
	}
	return t
}

func (s Server) withDefaults() Server {
	s.TLS = cmp.Or(strings.ToLower(s.TLS), startTLS)
	s.Port = cmp.Or(s.Port, map[string]int{startTLS: 587, implicitTLS: 465, noTLS: 25}[s.TLS])
	return s
}

// Address is the host and port that messages go to, defaults filled in.
func (s Server) Address() string { return s.withDefaults().address() }

func (b *builder) server(s Server) Server {
	if s.Host == "" {
		b.fail("smtp.host", "is required by email actions")
	}
	given := s.TLS // as it is known to whoever keeps secrets out of messages
	s = s.withDefaults()
	if !slices.Contains([]string{startTLS, implicitTLS, noTLS}, s.TLS) {
		b.fail("smtp.tls", "unknown mode %q (want starttls, tls or none)", given)
	}
	if s.Port < 0 || s.Port > 65535 {
		b.fail("smtp.port", "%d is not a port", s.Port)
	}
	if s.Username == "" && !s.Password.IsZero() {
		b.fail("smtp.username", "is required with smtp.password")
	}
	if s.Username != "" && s.Password.IsZero() {
		b.fail("smtp.password", "is required with smtp.username")
	}
	return s
}

// encryption is what connections are encrypted with, unless they are not.
func (b *builder) encryption(s Server) *tls.Config {
	if s.withDefaults().TLS == noTLS && !s.Certificates.IsZero() {
		b.fail("smtp.certificates", `is for a server with TLS, and smtp.tls is "none"`)
		return nil
	}
	config, err := s.Certificates.Config("smtp.certificates")
	if err != nil {
		b.errs = append(b.errs, err)
		return nil
	}
	config.ServerName = cmp.Or(config.ServerName, s.Host)
	return config
}

func (b *builder) addresses(s Server) addressTemplates {
	t := addressTemplates{
		to:      append(b.fields("to", b.cfg.To...), b.fields("to_template", given(b.cfg.ToTemplate)...)...),
		cc:      b.fields("cc", b.cfg.CC...),
		bcc:     b.fields("bcc", b.cfg.BCC...),
		replyTo: b.fields("reply_to", given(b.cfg.ReplyTo)...),
	}
	if len(t.to) == 0 {
		b.fail("to", "is required")
	}
	switch {
	case b.cfg.From != "":
		t.from = b.fields("from", b.cfg.From)[0]
	case s.From != "":
		t.from = b.fields("smtp.from", s.From)[0]
	default:
		b.fail("from", "is required, here or in the [smtp] section")
	}
	return t
}

func given(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func (b *builder) fields(key string, sources ...string) []field {
	fields := make([]field, 0, len(sources))
	for _, src := range sources {
		t := b.compile(key, src, template.Address)
		if t != nil && t.Static() {
			if _, err := parseAddresses(src); err != nil {
				b.fail(key, "%w", err)
			}
		}
		fields = append(fields, field{key, t})
	}
	return fields
}

func (b *builder) subject() *template.Template {
	if b.cfg.Subject != "" && b.cfg.SubjectTemplate != "" {
		b.fail("subject_template", "means the same as subject; set one of them")
	}
	if b.cfg.SubjectTemplate != "" {
		return b.compile("subject_template", b.cfg.SubjectTemplate, template.Header)
	}
	if b.cfg.Subject == "" {
		b.fail("subject", "is required")
		return nil
	}
	return b.compile("subject", b.cfg.Subject, template.Header)
}

func (b *builder) bodies() (text, html *template.Template) {
	if b.cfg.BodyTemplate == "" && b.cfg.HTMLTemplate == "" {
		b.fail("body_template", "is required, or html_template")
	}
	if b.cfg.BodyTemplate != "" {
		text = b.compile("body_template", b.cfg.BodyTemplate, template.Text)
	}
	if b.cfg.HTMLTemplate != "" {
		html = b.compile("html_template", b.cfg.HTMLTemplate, template.HTML)
	}
	return text, html
}
