package teams

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action posts to a webhook of Microsoft Teams. It is safe for concurrent use.
type Action struct {
	client  *http.Client
	webhook *outbound.SecretURL
	title   *template.Template
	message *template.Template
	card    *template.Template // nil: a card is made of title and message
}

var _ observer.Identifier = (*Action)(nil)

// New makes an action that sends through client. An invalid configuration gives
// [observer.FieldError]s, joined.
func New(cfg Config, client *http.Client) (*Action, error) {
	templates, err := template.NewCompiler()
	if err != nil {
		return nil, err
	}
	webhook, webhookErr := outbound.ParseSecretURL("teams", cfg.WebhookURL, cfg.Redactor)
	title, titleErr := templates.Compile(cfg.TitleTemplate, template.Markdown)
	message, messageErr := compileMessage(templates, cfg)
	card, cardErr := compileCard(templates, cfg)
	err = errors.Join(
		outbound.Invalid("webhook_url", webhookErr),
		outbound.Invalid("title_template", titleErr),
		outbound.Invalid("message_template", messageErr),
		outbound.Invalid("card_template", cardErr),
	)
	if err != nil {
		return nil, err
	}
	return &Action{client: client, webhook: webhook, title: title, message: message, card: card}, nil
}

func compileMessage(templates *template.Compiler, cfg Config) (*template.Template, error) {
	if cfg.MessageTemplate == "" && cfg.CardTemplate == "" {
		return nil, errors.New("is required, or card_template")
	}
	return templates.Compile(cfg.MessageTemplate, template.Markdown)
}

func compileCard(templates *template.Compiler, cfg Config) (*template.Template, error) {
	switch {
	case cfg.CardTemplate == "":
		return nil, nil
	case cfg.MessageTemplate != "" || cfg.TitleTemplate != "":
		return nil, errors.New("is the whole card: leave title_template and message_template out")
	}
	return templates.Compile(cfg.CardTemplate, template.JSON)
}

// request is a rendered message as it is stored.
type request struct {
	Title outbound.Piece `json:"title,omitempty"`
	Text  outbound.Piece `json:"text,omitempty"`
	Card  outbound.Piece `json:"card,omitempty"`
}

// Prepare renders the card.
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
	redactor := a.webhook.Redactor()
	req, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(redactor, err)
	}
	answer, err := outbound.Send(a.client, req, redactor)
	if err != nil {
		return observer.Result{}, err
	}
	result := observer.Result{Status: answer.Status, Detail: outbound.Detail(redactor, answer.Body)}
	return result, outbound.Redact(redactor, judge(answer))
}

// prepare renders the card and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*http.Request, error) {
	var r request
	there, err := outbound.LoadRequest(d, &r)
	if err != nil {
		return nil, err
	}
	content, fresh, err := a.content(ctx, r, d.Event)
	if err != nil {
		return nil, err
	}
	body, err := newBody(content)
	if err != nil {
		return nil, err
	}
	req, err := a.webhook.PostJSON(ctx, body)
	if err != nil || there {
		return req, err
	}
	return req, outbound.StoreRequest(d, fresh)
}

// content is the card and what of it is to be stored. A stored request decides
// what it consists of, so that a changed configuration does not.
func (a *Action) content(ctx context.Context, stored request, e *observer.Event) (json.RawMessage, request, error) {
	keep := func(text string) outbound.Piece { return outbound.Keep(a.webhook.Redactor(), text) }
	if stored.Card != nil || stored.Text == nil && a.card != nil {
		text, err := outbound.Resolve(ctx, stored.Card, a.card, e)
		if err != nil {
			return nil, request{}, fmt.Errorf("card_template: %w", err)
		}
		if !json.Valid([]byte(text)) { // edited by a person
			return nil, request{}, observer.Permanent(observer.ReasonTemplate, errors.New("the stored card is not JSON"))
		}
		return json.RawMessage(text), request{Card: keep(text)}, nil
	}
	title, err := outbound.Resolve(ctx, stored.Title, a.title, e)
	if err != nil {
		return nil, request{}, fmt.Errorf("title_template: %w", err)
	}
	text, err := outbound.Resolve(ctx, stored.Text, a.message, e)
	if err != nil {
		return nil, request{}, fmt.Errorf("message_template: %w", err)
	}
	card, err := newCard(title, text)
	return card, request{Title: keep(title), Text: keep(text)}, err
}
