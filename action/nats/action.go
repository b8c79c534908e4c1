package nats

import (
	"context"
	"encoding/json"
	"fmt"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/connection"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action publishes a message. It is safe for concurrent use.
type Action struct {
	subject   *template.Template
	body      *template.Template // nil: the event as JSON
	jetStream bool
	redactor  observer.Redactor
	place     string
	endpoint  string
	link      *connection.Held[*link]
}

// request is a rendered message as it is stored.
type request struct {
	Subject outbound.Piece `json:"subject,omitempty"`
	Body    outbound.Piece `json:"body,omitempty"`
}

var _ observer.Preparer = (*Action)(nil)

// Prepare renders the message.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the server, or the servers.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Close closes the connection once no delivery uses it.
func (a *Action) Close() error { return a.link.Close() }

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	msg, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	detail, err := a.publish(ctx, msg)
	if err != nil {
		err = outbound.Redact(a.redactor, fmt.Errorf("nats server %s: %w", a.place, err))
	}
	return observer.Result{Detail: outbound.Detail(a.redactor, []byte(detail))}, err
}

// maxBody is how long a message may be, in bytes. What the server takes, mostly
// 1 MiB, is found out when it is sent.
const maxBody = 10 << 20

// prepare renders the message and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (*client.Msg, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return nil, err
	}
	subject, err := outbound.Resolve(ctx, stored.Subject, a.subject, d.Event)
	if err != nil {
		return nil, fmt.Errorf("subject: %w", err)
	}
	if err := checkSubject(subject); err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("subject: %w", err))
	}
	body, err := a.renderBody(ctx, stored.Body, d.Event)
	if err != nil {
		return nil, fmt.Errorf("body_template: %w", err)
	}
	if len(body) > maxBody {
		return nil, observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("body_template: %d bytes, more than %d", len(body), maxBody))
	}
	msg := client.NewMsg(subject)
	msg.Data = []byte(body)
	// A header is one line; what the names of observers may have stays readable.
	msg.Header.Set(jetstream.MsgIDHeader, percent(d.Key, "/_-.@ "))
	msg.Header.Set("Content-Type", "application/json")
	if there {
		return msg, nil
	}
	return msg, outbound.StoreRequest(d, request{Subject: outbound.Keep(a.redactor, subject), Body: outbound.Keep(a.redactor, body)})
}

func (a *Action) renderBody(ctx context.Context, stored outbound.Piece, e *observer.Event) (string, error) {
	if stored != nil || a.body != nil {
		return outbound.Resolve(ctx, stored, a.body, e)
	}
	b, err := json.Marshal(e)
	if err != nil {
		return "", observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode event: %w", err))
	}
	return outbound.Clean(string(b)), nil
}

func (a *Action) publish(ctx context.Context, msg *client.Msg) (string, error) {
	l, done, err := a.link.Use(ctx)
	if err != nil {
		return "", unconnected(err)
	}
	defer done()
	if err := ctx.Err(); err != nil { // here nothing has been sent
		return "", err
	}
	waiting, end := l.await(ctx, msg.Subject)
	defer end()
	if a.jetStream {
		return stored(waiting, l, msg)
	}
	return handedOver(waiting, l, msg)
}

// stored waits until a stream has the message.
func stored(ctx context.Context, l *link, msg *client.Msg) (string, error) {
	ack, err := l.js.PublishMsg(ctx, msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return "", judge(ctx, err)
	}
	detail := fmt.Sprintf("stream %s, sequence %d", ack.Stream, ack.Sequence)
	if ack.Duplicate {
		detail += ", was there already"
	}
	return detail, nil
}

// handedOver waits until the server has read the message: it answers in the
// order of what it was sent, and a refusal comes before the answer.
func handedOver(ctx context.Context, l *link, msg *client.Msg) (string, error) {
	if err := l.conn.PublishMsg(msg); err != nil {
		return "", judge(ctx, err)
	}
	var err error
	if _, bounded := ctx.Deadline(); bounded {
		err = l.conn.FlushWithContext(ctx)
	} else {
		err = l.conn.FlushTimeout(connectTime)
	}
	if err == nil {
		err = l.refusal(msg.Subject)
	}
	if err != nil {
		return "", judge(ctx, err)
	}
	return "published to " + msg.Subject, nil
}
