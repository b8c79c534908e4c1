package push

import (
	"context"
	"net/http"
	"net/url"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Action sends notifications through Firebase. It is safe for concurrent use.
type Action struct {
	client   *http.Client
	redactor observer.Redactor
	messages *url.URL
	endpoint string
	tokens   *tokens
	target   target
	content  content
}

var _ observer.Identifier = (*Action)(nil)

// Prepare renders the message. It also checks what is not stored, who receives it.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the server of the API and the project.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Identity is of the project and the message.
func (a *Action) Identity(ctx context.Context, d *observer.Delivery) (string, error) {
	body, err := a.prepare(ctx, d)
	if err != nil {
		return "", outbound.Redact(a.redactor, err)
	}
	return outbound.Identity(a.messages.String(), string(body)), nil
}

// Execute makes one attempt. It may ask for an access token first; when that
// fails, nothing was sent.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	body, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	token, err := a.tokens.get(ctx)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	req, err := outbound.NewPost(ctx, a.messages, outbound.TypeJSON, body)
	if err != nil {
		return observer.Result{}, err
	}
	req.Header.Set("Authorization", "Bearer "+token.Reveal())
	redactor := a.redactor.With(token)
	answer, err := outbound.Send(a.client, req, redactor)
	if err != nil {
		return observer.Result{}, err
	}
	result, err := a.read(answer, token, redactor)
	return result, outbound.Redact(redactor, err)
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) ([]byte, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	m, err := a.content.render(ctx, stored, there, d.Event)
	if err != nil {
		return nil, err
	}
	to, err := a.target.render(ctx, d.Event)
	if err != nil {
		return nil, err
	}
	m.address(a.target.field, to)
	body, err := outbound.EncodeJSON(envelope{Message: m})
	if err != nil || there {
		return body, err
	}
	return body, outbound.StoreRequest(d, m.keep(a.redactor))
}
