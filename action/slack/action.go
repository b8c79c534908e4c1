package slack

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxText is where Slack cuts a message off, in characters.
const maxText = 40_000

// Action posts to a Slack incoming webhook. It is safe for concurrent use.
type Action struct {
	client  *http.Client
	webhook *outbound.SecretURL
	channel *template.Template
	message *template.Template
}

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	// The webhook is the receiver: each belongs to one channel of one workspace.
	webhook, webhookErr := outbound.ParseSecretURL("slack", cfg.WebhookURL, cfg.Redactor)
	channel, channelErr := templates.Compile(cfg.Channel, template.Text)
	message, messageErr := compileMessage(templates, cfg.MessageTemplate)
	err = errors.Join(
		outbound.Invalid("webhook_url", webhookErr),
		outbound.Invalid("channel", channelErr),
		outbound.Invalid("message_template", messageErr),
	)
	if err != nil {
		return nil, err
	}
	return &Action{client: client, webhook: webhook, channel: channel, message: message}, nil
}

var _ observer.Identifier = (*Action)(nil)

func compileMessage(templates *template.Compiler, src string) (*template.Template, error) {
	if src == "" {
		return nil, errors.New("is required")
	}
	return templates.Compile(src, template.Slack)
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
	return outbound.Prepare(ctx, d, a.webhook.Redactor(), a.prepare)
}

// Endpoint is the host of the webhook and a hash of the rest, which is secret.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.webhook.Endpoint() }

// Identity is of the address and all that is sent there.
func (a *Action) Identity(ctx context.Context, d *observer.Delivery) (string, error) {
	return outbound.PreparedIdentity(ctx, d, a.webhook.Redactor(), a.prepare)
}

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	req, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.webhook.Redactor(), err)
	}
	return outbound.Exchange(a.client, req, a.webhook.Redactor())
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
	body, err := outbound.EncodeJSON(payload{Text: text, Channel: strings.TrimSpace(channel)})
	if err != nil {
		return nil, err
	}
	req, err := a.webhook.PostJSON(ctx, body)
	if err != nil || there {
		return req, err
	}
	return req, outbound.StoreRequest(d, request{Text: outbound.Keep(a.webhook.Redactor(), text)})
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
