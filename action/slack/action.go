package slack

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxText is where Slack cuts a message off, in characters.
const maxText = 40_000

// Action posts to a Slack incoming webhook. It is safe for concurrent use.
type Action struct {
	client   *http.Client
	redactor observer.Redactor
	webhook  *url.URL
	endpoint string
	channel  *template.Template
	message  *template.Template
}

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	webhook, webhookErr := parseWebhook(cfg.WebhookURL)
	channel, channelErr := templates.Compile(cfg.Channel, template.Text)
	message, messageErr := compileMessage(templates, cfg.MessageTemplate)
	err = errors.Join(
		invalid("webhook_url", webhookErr),
		invalid("channel", channelErr),
		invalid("message_template", messageErr),
	)
	if err != nil {
		return nil, err
	}
	return &Action{
		client: client, webhook: webhook, channel: channel, message: message,
		// The webhook is the receiver: each belongs to one channel of one workspace.
		endpoint: outbound.Endpoint(cfg.Redactor, "slack", webhook.Host, webhook.RequestURI(), true),
		redactor: cfg.Redactor.With(outbound.Forms(tokens(cfg.WebhookURL, webhook)...)...),
	}, nil
}

var _ observer.Preparer = (*Action)(nil)

func invalid(field string, err error) error {
	if err == nil {
		return nil
	}
	return &observer.FieldError{Field: field, Err: err}
}

// parseWebhook never repeats the URL in its errors: it is a secret.
func parseWebhook(secret observer.Secret) (*url.URL, error) {
	if secret.IsZero() {
		return nil, errors.New("is required")
	}
	u, err := url.Parse(secret.Reveal())
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || u.User != nil {
		return nil, errors.New("is not the http(s) URL of an incoming webhook")
	}
	return u, nil
}

func compileMessage(templates *template.Compiler, src string) (*template.Template, error) {
	if src == "" {
		return nil, errors.New("is required")
	}
	return templates.Compile(src, template.Slack)
}

const (
	// tokenLength is from where on a part of a webhook is kept secret by itself: a
	// shorter one would redact common text.
	tokenLength = 6
	// wordLength is from where on a part of the path is no word that somebody chose.
	wordLength = 20
)

// tokens are what answers and network errors may name of a webhook: the whole,
// its path, the last part of that, where Slack has the token, the parts that look
// like one, where others have it, and the values of the query.
func tokens(whole observer.Secret, webhook *url.URL) []observer.Secret {
	parts := []string{webhook.Path, webhook.EscapedPath(), path.Base(webhook.Path), webhook.RawQuery}
	for part := range strings.SplitSeq(webhook.Path, "/") {
		if len(part) >= wordLength || strings.ContainsAny(part, "0123456789") {
			parts = append(parts, part)
		}
	}
	for _, values := range webhook.Query() {
		parts = append(parts, values...)
	}
	found := []observer.Secret{whole}
	for _, part := range parts {
		if len(part) >= tokenLength {
			found = append(found, observer.NewSecret(part))
		}
	}
	return found
}

// request is a rendered message as it is stored.
type request struct {
	Text outbound.Piece `json:"text,omitempty"`
}

// payload is the body of the call.
type payload struct {
	Text    string `json:"text"`
	Channel string `json:"channel,omitempty"`
}

// Prepare renders the message.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	if outbound.Prepared(d) {
		return nil
	}
	_, err := a.prepare(ctx, d)
	return outbound.Redact(a.redactor, err)
}

// Endpoint is the host of the webhook and a hash of the rest, which is secret.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	req, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	return outbound.Exchange(a.client, req, a.redactor)
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*http.Request, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	text, err := a.text(ctx, stored.Text, d.Event)
	if err != nil {
		return nil, fmt.Errorf("message_template: %w", err)
	}
	channel, err := a.channel.Render(ctx, d.Event)
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	req, err := a.newRequest(ctx, payload{Text: text, Channel: strings.TrimSpace(channel)})
	if err != nil || there {
		return req, err
	}
	return req, outbound.StoreRequest(d, request{Text: outbound.Keep(a.redactor, text)})
}

func (a *Action) text(ctx context.Context, stored outbound.Piece, e *observer.Event) (string, error) {
	text, err := outbound.Resolve(ctx, stored, a.message, e)
	if err != nil {
		return "", err
	}
	if n := len([]rune(text)); n > maxText {
		return "", observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("%d characters, Slack shows at most %d", n, maxText))
	}
	return text, nil
}

func (a *Action) newRequest(ctx context.Context, p payload) (*http.Request, error) {
	body, err := json.Marshal(p)
	if err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode message: %w", err))
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "", bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	to := *a.webhook
	req.URL, req.Host = &to, to.Host
	req.Header.Set("Content-Type", "application/json; charset=utf-8")
	req.Header.Set("User-Agent", "FraiseQL-Observer")
	return req, nil
}
