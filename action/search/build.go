package search

import (
	"cmp"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

const (
	defaultMaxBody = 10 << 20
	maxIndex       = 255 // bytes, by the server's rule
	maxID          = 512 // likewise
)

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, templates: templates}
	a := &Action{
		client: client, server: b.server(), merge: b.merge(), maxBody: b.maxBody(),
		index: b.index(), id: b.compile("id_template", cmp.Or(cfg.IDTemplate, "{{ event.entity_id }}"), template.Text),
		body: b.compile("body_template", cmp.Or(cfg.BodyTemplate, "{{ data }}"), template.JSON),
	}
	a.authorization = b.authorization()
	if cfg.Version != "" && cfg.Version != noVersion {
		a.version = b.compile("version", cfg.Version, template.Text)
	}
	a.versioned = cfg.Version != noVersion
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	_, credential, _ := strings.Cut(a.authorization, " ")
	a.redactor = cfg.Redactor.With(cfg.Password, cfg.APIKey, observer.NewSecret(credential))
	a.endpoint = outbound.Endpoint(a.redactor, "search", outbound.Origin(a.server), a.server.EscapedPath(), false)
	return a, nil
}

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

// server never repeats the URL in its errors: it may hold a secret.
func (b *builder) server() *url.URL {
	if b.cfg.URL == "" {
		b.fail("url", "is required")
		return nil
	}
	u, err := url.Parse(b.cfg.URL)
	switch {
	case err != nil, u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
		b.fail("url", "is not the http(s) URL of a server")
		return nil
	case u.User != nil:
		b.fail("url", "must not contain credentials: they are for username and password, or api_key")
	case u.RawQuery != "" || u.Fragment != "":
		b.fail("url", "must not have a query or a fragment")
	}
	u.Path = strings.TrimRight(u.Path, "/")
	u.RawPath = ""
	return u
}

func (b *builder) index() *template.Template {
	if b.cfg.Index == "" {
		b.fail("index", "is required")
		return nil
	}
	t := b.compile("index", b.cfg.Index, template.Text)
	if t != nil && t.Static() {
		if err := checkIndex(b.cfg.Index); err != nil {
			b.fail("index", "%w", err)
		}
	}
	return t
}

func (b *builder) merge() bool {
	update := cmp.Or(b.cfg.Update, updateReplace)
	if update != updateReplace && update != updateMerge {
		b.fail("update", "%q is neither %s nor %s", b.cfg.Update, updateReplace, updateMerge)
	}
	return update == updateMerge
}

func (b *builder) maxBody() int64 {
	if b.cfg.MaxBodyBytes < 0 {
		b.fail("max_body_bytes", "must not be negative")
	}
	return cmp.Or(b.cfg.MaxBodyBytes, defaultMaxBody)
}

// authorization is the value of the header, "" for none.
func (b *builder) authorization() string {
	named, known := b.cfg.Username != "", !b.cfg.Password.IsZero()
	switch {
	case !b.cfg.APIKey.IsZero() && (named || known):
		b.fail("api_key", "stands beside username and password: set one of the two")
	case named && !known:
		b.fail("password", "is required with username")
	case known && !named:
		b.fail("username", "is required with password")
	case !b.cfg.APIKey.IsZero():
		return "ApiKey " + b.cfg.APIKey.Reveal()
	case named:
		return "Basic " + base64.StdEncoding.EncodeToString([]byte(b.cfg.Username+":"+b.cfg.Password.Reveal()))
	}
	return ""
}

// checkIndex is the server's rule for names, so that a bad one is found here.
func checkIndex(name string) error {
	switch {
	case name == "" || name == "." || name == "..":
		return fmt.Errorf("%q is no name of an index", name)
	case len(name) > maxIndex:
		return fmt.Errorf("the name of the index has %d bytes, more than %d", len(name), maxIndex)
	case strings.ToLower(name) != name:
		return fmt.Errorf("%q has capitals, which the name of an index cannot have (lowerAscii() makes small letters)", name)
	case strings.ContainsAny(name, "\\/*?\"<>| ,#:%\x00\r\n\t") || strings.ContainsRune("-_+", rune(name[0])):
		return fmt.Errorf(`%q is no name of an index: it has one of \/*?"<>| ,#:%% or begins with -, _ or +`, name)
	}
	return nil
}
