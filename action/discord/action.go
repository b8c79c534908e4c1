package discord

import (
	"context"
	"net/http"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action posts to a webhook of Discord. It is safe for concurrent use.
type Action struct {
	client   *http.Client
	webhook  *outbound.SecretURL
	message  *template.Template // nil when there are only embeds
	embeds   *template.Template // nil when there is only text
	username *template.Template
	thread   *template.Template
	mentions []string
}

var _ observer.Identifier = (*Action)(nil)

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
	redactor := a.webhook.Redactor()
	req, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(redactor, err)
	}
	answer, err := outbound.Send(a.client, req, redactor)
	if err != nil {
		return observer.Result{}, err
	}
	result, err := read(answer, redactor)
	return result, outbound.Redact(redactor, err)
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*http.Request, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	p, fresh, err := a.render(ctx, stored, d.Event)
	if err != nil {
		return nil, err
	}
	to, err := a.address(ctx, d.Event)
	if err != nil {
		return nil, err
	}
	body, err := outbound.EncodeJSON(p)
	if err != nil {
		return nil, err
	}
	req, err := to.PostJSON(ctx, body)
	if err != nil || there {
		return req, err
	}
	return req, outbound.StoreRequest(d, fresh)
}
