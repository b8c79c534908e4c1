package email

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"net"
	"net/mail"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxMessage is the longest message that is handed to a server, in bytes.
const maxMessage = 10 << 20

// Dial connects to the mail server.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// Action sends a message through an SMTP server, on a connection of its own. It
// is safe for concurrent use.
type Action struct {
	server     Server
	encryption *tls.Config
	endpoint   string
	dial       Dial
	redactor   observer.Redactor
	addresses  addressTemplates
	subject    *template.Template
	text       *template.Template // nil when there is only HTML
	html       *template.Template // nil when there is only text
}

// request is a rendered message as it is stored. The addresses say, for people,
// where the first attempt went.
type request struct {
	From    outbound.Piece `json:"from,omitempty"`
	To      outbound.Piece `json:"to,omitempty"`
	CC      outbound.Piece `json:"cc,omitempty"`
	BCC     outbound.Piece `json:"bcc,omitempty"`
	ReplyTo outbound.Piece `json:"reply_to,omitempty"`

	MessageID string         `json:"message_id"`
	Date      time.Time      `json:"date"`
	Subject   outbound.Piece `json:"subject,omitempty"`
	Text      outbound.Piece `json:"text,omitempty"`
	HTML      outbound.Piece `json:"html,omitempty"`
}

var _ observer.Identifier = (*Action)(nil)

// Prepare renders the message.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the SMTP server.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Identity is of the server, the addresses and what the message says. Its
// Message-ID and its date are of the delivery.
func (a *Action) Identity(ctx context.Context, d *observer.Delivery) (string, error) {
	m, err := a.prepare(ctx, d)
	if err != nil {
		return "", outbound.Redact(a.redactor, err)
	}
	return m.identity(a.endpoint), nil
}

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	m, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	result, err := a.send(ctx, m)
	result.Detail = outbound.Detail(a.redactor, []byte(result.Detail))
	return result, outbound.Redact(a.redactor, err)
}

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*envelope, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	to, err := a.addresses.render(ctx, d.Event)
	if err != nil {
		return nil, err
	}
	c, err := a.content(ctx, stored, d.Event)
	if err != nil {
		return nil, err
	}
	if !there {
		stored = a.keep(d, to, c)
	}
	m, err := compose(to, c, stored)
	if err != nil || there {
		return m, err
	}
	return m, outbound.StoreRequest(d, stored)
}

// content is what a message says.
type content struct{ subject, text, html string }

func (a *Action) content(ctx context.Context, stored request, e *observer.Event) (c content, err error) {
	if c.subject, err = outbound.Resolve(ctx, stored.Subject, a.subject, e); err != nil {
		return c, fmt.Errorf("subject: %w", err)
	}
	if c.text, err = optional(ctx, stored.Text, a.text, e); err != nil {
		return c, fmt.Errorf("body_template: %w", err)
	}
	if c.html, err = optional(ctx, stored.HTML, a.html, e); err != nil {
		return c, fmt.Errorf("html_template: %w", err)
	}
	return c, nil
}

func optional(ctx context.Context, stored outbound.Piece, t *template.Template, e *observer.Event) (string, error) {
	if stored == nil && t == nil {
		return "", nil
	}
	return outbound.Resolve(ctx, stored, t, e)
}

func (a *Action) keep(d *observer.Delivery, to addresses, c content) request {
	return request{
		From: a.keepAddresses(to.from), To: a.keepAddresses(to.to...), CC: a.keepAddresses(to.cc...),
		BCC: a.keepAddresses(to.bcc...), ReplyTo: a.keepAddresses(to.replyTo...),
		MessageID: messageID(d.Key, to.from), Date: d.Event.Timestamp.UTC(),
		Subject: outbound.Keep(a.redactor, c.subject),
		Text:    outbound.Keep(a.redactor, c.text),
		HTML:    outbound.Keep(a.redactor, c.html),
	}
}

func (a *Action) keepAddresses(list ...*mail.Address) outbound.Piece {
	if len(list) == 0 {
		return nil
	}
	texts := make([]string, len(list))
	for i, address := range list {
		texts[i] = address.String()
	}
	return outbound.Keep(a.redactor, strings.Join(texts, ", "))
}

// messageID is the same for every attempt of a delivery and tells nothing of
// its key.
func messageID(key string, from *mail.Address) string {
	sum := sha256.Sum256([]byte(key))
	_, domain, _ := strings.Cut(from.Address, "@")
	return hex.EncodeToString(sum[:16]) + "@" + domain
}
