package webhook

import (
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

const (
	defaultMaxBody     = 1 << 20
	defaultContentType = "application/json"
)

// builder turns a configuration into the parts of an action and collects
// everything that is wrong with it.
type builder struct {
	cfg       Config
	templates *template.Compiler
	errs      []error
}

func (b *builder) fail(field string, err error) {
	if err != nil {
		b.errs = append(b.errs, &observer.FieldError{Field: field, Err: err})
	}
}

func (b *builder) compile(field, src string, kind template.Kind) *template.Template {
	t, err := b.templates.Compile(src, kind)
	b.fail(field, err)
	return t
}

func (b *builder) url() *template.Template {
	if b.cfg.URL == "" {
		b.fail("url", errors.New("is required"))
		return nil
	}
	t := b.compile("url", b.cfg.URL, template.URL)
	if t != nil && t.Static() {
		_, err := parseURL(b.cfg.URL)
		b.fail("url", err)
	}
	return t
}

// parseURL accepts what can be called. Its errors do not repeat the URL, which
// may hold secrets.
func parseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return nil, errors.New("is not a valid URL")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("names no host")
	case u.User != nil:
		return nil, errors.New("must not contain credentials; put them in a header such as Authorization")
	}
	u.Fragment, u.RawFragment = "", ""
	return u, nil
}

func (b *builder) method() string {
	method := strings.ToUpper(b.cfg.Method)
	switch method {
	case "":
		return http.MethodPost
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodGet:
	default:
		b.fail("method", fmt.Errorf("unknown method %q (want POST, PUT, PATCH, DELETE or GET)", b.cfg.Method))
	}
	return method
}

func (b *builder) contentType() string {
	for name, value := range b.cfg.Headers {
		if !strings.EqualFold(name, "Content-Type") {
			continue
		}
		if strings.Contains(value, "{{") {
			b.fail("headers."+name, errors.New("must not contain a template: it decides how body_template is encoded"))
		} else if _, _, err := mime.ParseMediaType(value); err != nil {
			b.fail("headers."+name, err)
		}
		return value
	}
	return defaultContentType
}

func (b *builder) body(contentType string) *template.Template {
	if b.cfg.BodyTemplate == "" {
		return nil
	}
	kind := template.Text
	if isJSON(contentType) {
		kind = template.JSON
	}
	return b.compile("body_template", b.cfg.BodyTemplate, kind)
}

func isJSON(contentType string) bool {
	media, _, _ := mime.ParseMediaType(contentType)
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

func (b *builder) headers() []header {
	var headers []header
	seen := map[string]bool{}
	for _, name := range slices.Sorted(maps.Keys(b.cfg.Headers)) {
		canonical := http.CanonicalHeaderKey(name)
		field := "headers." + name
		switch {
		case !validHeaderName(name):
			b.fail(field, errors.New("is not a valid header name"))
		case reserved(canonical):
			b.fail(field, errors.New("is set by the observer itself and cannot be configured"))
		case seen[canonical]:
			b.fail(field, errors.New("is given twice, in different case"))
		case canonical != "Content-Type":
			t := b.compile(field, b.cfg.Headers[name], template.Header)
			headers = append(headers, header{canonical, t})
		}
		seen[canonical] = true
	}
	return headers
}

// validHeaderName is the token rule of RFC 9110.
func validHeaderName(name string) bool {
	for i := range len(name) {
		if !isAlphanumeric(name[i]) && strings.IndexByte("!#$%&'*+-.^_`|~", name[i]) < 0 {
			return false
		}
	}
	return name != ""
}

// reserved are the headers that belong to the connection, the framing of the
// message, or the identity of the delivery.
func reserved(canonical string) bool {
	switch canonical {
	case "Host", "Content-Length", "Connection", "Keep-Alive", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Expect", "Idempotency-Key":
		return true
	}
	return strings.HasPrefix(canonical, "Proxy-") || strings.HasPrefix(canonical, "Webhook-")
}

func (b *builder) secrets() []observer.Secret {
	secrets := slices.Clone(b.cfg.SigningSecrets)
	if !b.cfg.SigningSecret.IsZero() {
		secrets = append([]observer.Secret{b.cfg.SigningSecret}, secrets...)
	}
	return secrets
}

func (b *builder) signers() []signer {
	var signers []signer
	add := func(field string, s observer.Secret) {
		one, err := newSigner(s)
		b.fail(field, err)
		signers = append(signers, one)
	}
	if !b.cfg.SigningSecret.IsZero() {
		add("signing_secret", b.cfg.SigningSecret)
	}
	for _, s := range b.cfg.SigningSecrets {
		add("signing_secrets", s)
	}
	return signers
}

func (b *builder) maxBody() int64 {
	switch {
	case b.cfg.MaxBodyBytes < 0:
		b.fail("max_body_bytes", errors.New("must not be negative"))
	case b.cfg.MaxBodyBytes == 0:
		return defaultMaxBody
	}
	return b.cfg.MaxBodyBytes
}
