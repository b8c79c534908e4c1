package sms

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"unicode/utf8"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxText is the longest text that the API takes, in characters.
const maxText = 1600

// Action sends text messages. It is safe for concurrent use.
type Action struct {
	client   *http.Client
	redactor observer.Redactor
	messages *url.URL
	endpoint string
	username string
	password observer.Secret
	from     *template.Template // nil: service chooses the sender
	service  string
	to       *template.Template
	body     *template.Template
}

var _ observer.Identifier = (*Action)(nil)

// request is a rendered message as it is stored.
type request struct {
	// To says, for people, where the first attempt went.
	To   outbound.Piece `json:"to,omitempty"`
	Body outbound.Piece `json:"body,omitempty"`
}

// Prepare renders the message. It also checks what is not stored, the sender and
// the recipient.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the server of the API and a hash of the account.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Identity is of the address and all that is sent there.
func (a *Action) Identity(ctx context.Context, d *observer.Delivery) (string, error) {
	return outbound.PreparedIdentity(ctx, d, a.redactor, a.prepare)
}

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	req, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	answer, err := outbound.Send(a.client, req, a.redactor)
	if err != nil {
		return observer.Result{}, err
	}
	result, err := read(answer, a.redactor)
	return result, outbound.Redact(a.redactor, err)
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*http.Request, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	form, err := a.form(ctx, stored, d.Event)
	if err != nil {
		return nil, err
	}
	req, err := outbound.NewPost(ctx, a.messages, outbound.TypeForm, []byte(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	req.SetBasicAuth(a.username, a.password.Reveal())
	if there {
		return req, nil
	}
	return req, outbound.StoreRequest(d, request{
		To: outbound.Keep(a.redactor, form.Get("To")), Body: outbound.Keep(a.redactor, form.Get("Body")),
	})
}

func (a *Action) form(ctx context.Context, stored request, e *observer.Event) (url.Values, error) {
	body, err := outbound.Resolve(ctx, stored.Body, a.body, e)
	if err != nil {
		return nil, fmt.Errorf("body_template: %w", err)
	}
	if n := utf8.RuneCountInString(body); n > maxText {
		return nil, observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("body_template: %d characters, a message has at most %d", n, maxText))
	}
	to, err := outbound.Text(ctx, a.to, e)
	if err != nil {
		return nil, fmt.Errorf("to: %w", err)
	}
	form := url.Values{"To": {to}, "Body": {body}}
	if a.from == nil {
		form.Set("MessagingServiceSid", a.service)
		return form, nil
	}
	from, err := outbound.Text(ctx, a.from, e)
	if err != nil {
		return nil, fmt.Errorf("from: %w", err)
	}
	form.Set("From", from)
	return form, nil
}
