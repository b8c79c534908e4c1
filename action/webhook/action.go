package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action calls an HTTP receiver. It is safe for concurrent use.
type Action struct {
	client      *http.Client
	redactor    observer.Redactor
	words       []observer.Secret // not in answers
	url         *template.Template
	endpoint    endpoint
	method      string
	headers     []header
	contentType string
	body        *template.Template // nil: the event as JSON, or nothing
	bodiless    bool
	maxBody     int64
	signers     []signer
}

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	b := builder{cfg: cfg, templates: templates}
	a := &Action{
		client: client, redactor: cfg.Redactor.With(cfg.credentials()...),
		words: cfg.shortWords(),
		url:   b.url(), method: b.method(), contentType: b.contentType(),
		headers: b.headers(), signers: b.signers(), maxBody: b.maxBody(),
	}
	a.body = b.body(a.contentType)
	a.bodiless = a.body == nil && a.method == http.MethodGet
	for _, s := range b.secrets() {
		a.redactor = a.redactor.With(outbound.Forms(s, observer.NewSecret(bare(s)))...)
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	a.endpoint = b.endpoint(a.redactor, a.url)
	return a, nil
}

var _ observer.Identifier = (*Action)(nil)

// request is a rendered request as it is stored. Headers are not: they are
// where credentials live.
type request struct {
	// Method and URL say, for people, where the first attempt went.
	Method string `json:"method"`
	URL    string `json:"url"`

	ContentType outbound.Piece `json:"content_type,omitempty"`
	Body        outbound.Piece `json:"body,omitempty"`
}

// Prepare renders the request. It also checks what is not stored, the URL and
// the headers.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, func(ctx context.Context, d *observer.Delivery) (*http.Request, error) {
		req, _, err := a.prepare(ctx, d)
		return req, err
	})
}

// Endpoint is the server and the path of the URL up to its first placeholder.
func (a *Action) Endpoint(ctx context.Context, d *observer.Delivery) string {
	return a.endpoint.of(ctx, d.Event)
}

// Identity is of the whole request, but for the headers of the delivery and the signature.
func (a *Action) Identity(ctx context.Context, d *observer.Delivery) (string, error) {
	req, _, err := a.prepare(ctx, d)
	if err != nil {
		return "", outbound.Redact(a.redactor, err)
	}
	return outbound.RequestIdentity(req)
}

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	req, body, err := a.prepare(ctx, d)
	if err == nil {
		err = a.identify(req, d.Key, body)
	}
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	result, err := outbound.Exchange(a.client, req, a.redactor)
	result.Detail = withoutWords(result.Detail, a.words)
	return result, err
}

// prepare renders the request and its body and, on a first attempt, stores them in
// d. What tells the delivery from others is not in it yet: see identify.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*http.Request, string, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, "", err
	}
	body, err := a.renderBody(ctx, stored.Body, d.Event)
	if err != nil {
		return nil, "", fmt.Errorf("body: %w", err)
	}
	contentType := a.contentType
	if stored.ContentType != nil {
		contentType = *stored.ContentType
	}
	to, err := a.renderURL(ctx, d.Event)
	if err != nil {
		return nil, "", fmt.Errorf("url: %w", err)
	}
	req, err := a.newRequest(ctx, to, body)
	if err != nil {
		return nil, "", err
	}
	if err := a.setHeaders(ctx, req, d.Event, contentType); err != nil {
		return nil, "", err
	}
	if there {
		return req, body, nil
	}
	return req, body, outbound.StoreRequest(d, request{
		Method: a.method, URL: a.shown(to),
		ContentType: outbound.Keep(a.redactor, contentType), Body: outbound.Keep(a.redactor, body),
	})
}

// shown is a URL for people. A secret in its path may stand there escaped.
func (a *Action) shown(to *url.URL) string {
	path := to.EscapedPath()
	if a.redactor.Contains(to.Path) {
		path = to.Path
	}
	return a.redactor.Redact(outbound.Origin(to) + path)
}

func (a *Action) renderBody(ctx context.Context, stored outbound.Piece, e *observer.Event) (string, error) {
	if stored != nil {
		return *stored, nil
	}
	body, err := a.freshBody(ctx, e)
	if err != nil {
		return "", err
	}
	if int64(len(body)) > a.maxBody {
		return "", observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("%d bytes, more than max_body_bytes = %d", len(body), a.maxBody))
	}
	return body, nil
}

func (a *Action) freshBody(ctx context.Context, e *observer.Event) (string, error) {
	if a.bodiless {
		return "", nil
	}
	if a.body != nil {
		return outbound.Resolve(ctx, nil, a.body, e)
	}
	b, err := e.MarshalJSON() // encoding/json would check and copy it once more
	if err != nil {
		return "", observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode event: %w", err))
	}
	return outbound.Clean(string(b)), nil
}

func (a *Action) renderURL(ctx context.Context, e *observer.Event) (*url.URL, error) {
	text, err := a.url.Render(ctx, e)
	if err != nil {
		return nil, err
	}
	to, err := parseURL(text)
	return to, observer.Permanent(observer.ReasonTemplate, err)
}

func (a *Action) newRequest(ctx context.Context, to *url.URL, body string) (*http.Request, error) {
	var reader io.Reader
	if !a.bodiless {
		reader = strings.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, a.method, "", reader)
	if err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, err)
	}
	req.URL, req.Host = to, to.Host
	return req, nil
}
