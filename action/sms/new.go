package sms

import (
	"cmp"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const twilio = "https://api.twilio.com"

// builder turns a configuration into the parts of an action and collects
// everything that is wrong with it.
type builder struct {
	cfg       Config
	templates *template.Compiler
	errs      []error
}

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, templates: templates}
	a := &Action{client: client, service: cfg.MessagingServiceSID}
	a.messages, a.endpoint = b.address()
	a.username, a.password = b.credentials()
	a.from = b.sender()
	a.to = b.recipient()
	a.body = b.required("body_template", cfg.BodyTemplate, template.Text)
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	pair := base64.StdEncoding.EncodeToString([]byte(a.username + ":" + a.password.Reveal()))
	a.redactor = cfg.Redactor.With(a.password, observer.NewSecret(pair))
	return a, nil
}

func (b *builder) fail(field, problem string) {
	b.errs = append(b.errs, outbound.Invalid(field, errors.New(problem)))
}

func (b *builder) required(field, src string, kind template.Kind) *template.Template {
	if src == "" {
		b.fail(field, "is required")
		return nil
	}
	t, err := b.templates.Compile(src, kind)
	if err != nil {
		b.errs = append(b.errs, outbound.Invalid(field, err))
	}
	return t
}

// address is the resource that messages are posted to, and its name for people.
func (b *builder) address() (*url.URL, string) {
	base, err := outbound.ParseBase(cmp.Or(b.cfg.APIURL, twilio))
	if err != nil {
		b.errs = append(b.errs, outbound.Invalid("api_url", err))
	}
	switch sid := b.cfg.AccountSID; {
	case sid == "":
		b.fail("account_sid", "is required")
	case strings.ContainsAny(sid, "/?#%") || strings.ContainsFunc(sid, isNotGraphic):
		b.fail("account_sid", "is not the SID of an account")
	case err == nil:
		to := base.JoinPath("2010-04-01", "Accounts", sid, "Messages.json")
		// The account is the receiver: its limits are shared by all its numbers.
		return to, outbound.Endpoint(b.cfg.Redactor, "sms", outbound.Origin(base), to.Path, true)
	}
	return nil, ""
}

func isNotGraphic(r rune) bool { return r <= ' ' || r >= 0x7f }

// credentials are those of the account, or of an API key.
func (b *builder) credentials() (string, observer.Secret) {
	key, token := b.cfg.APIKey != "" || !b.cfg.APIKeySecret.IsZero(), !b.cfg.AuthToken.IsZero()
	switch {
	case key && token:
		b.fail("auth_token", "stands beside api_key: write one of the two")
	case !key && !token:
		b.fail("auth_token", "is required, or api_key and api_key_secret")
	case key && b.cfg.APIKey == "":
		b.fail("api_key", "is required with api_key_secret")
	case strings.Contains(b.cfg.APIKey, ":"):
		b.fail("api_key", "must not contain a colon")
	case key && b.cfg.APIKeySecret.IsZero():
		b.fail("api_key_secret", "is required with api_key")
	case key:
		return b.cfg.APIKey, b.cfg.APIKeySecret
	}
	return b.cfg.AccountSID, b.cfg.AuthToken
}

// sender is nil when a messaging service chooses it.
func (b *builder) sender() *template.Template {
	switch {
	case b.cfg.From == "" && b.cfg.MessagingServiceSID == "":
		b.fail("from", "is required, or messaging_service_sid")
		return nil
	case b.cfg.From != "" && b.cfg.MessagingServiceSID != "":
		b.fail("messaging_service_sid", "stands beside from: write one of the two")
		return nil
	case b.cfg.From == "":
		return nil
	}
	return b.required("from", b.cfg.From, template.Header)
}

func (b *builder) recipient() *template.Template {
	switch {
	case b.cfg.To != "" && b.cfg.ToTemplate != "":
		b.fail("to_template", "stands beside to: write one of the two")
		return nil
	case b.cfg.ToTemplate != "":
		return b.required("to_template", b.cfg.ToTemplate, template.Header)
	}
	return b.required("to", b.cfg.To, template.Header)
}
