package search

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// Action writes documents. It is safe for concurrent use.
type Action struct {
	client        *http.Client
	redactor      observer.Redactor
	server        *url.URL
	endpoint      string
	authorization string
	index         *template.Template
	id            *template.Template
	body          *template.Template
	version       *template.Template // nil: event.seq
	versioned     bool
	merge         bool
	maxBody       int64
}

// request is a rendered change of a document as it is stored.
type request struct {
	// Operation is index, update or delete.
	Operation string         `json:"operation"`
	Index     outbound.Piece `json:"index,omitempty"`
	ID        outbound.Piece `json:"id,omitempty"`
	Version   *int64         `json:"version,omitempty"`
	Body      outbound.Piece `json:"body,omitempty"`
}

// The values of [request.Operation].
const (
	opIndex  = "index"
	opUpdate = "update"
	opDelete = "delete"
)

var _ observer.Preparer = (*Action)(nil)

// Prepare renders the document.
func (a *Action) Prepare(ctx context.Context, d *observer.Delivery) error {
	return outbound.Prepare(ctx, d, a.redactor, a.prepare)
}

// Endpoint is the server.
func (a *Action) Endpoint(context.Context, *observer.Delivery) string { return a.endpoint }

// Execute makes one attempt.
func (a *Action) Execute(ctx context.Context, d *observer.Delivery) (observer.Result, error) {
	c, err := a.prepare(ctx, d)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	req, err := a.newRequest(ctx, c, d.Key)
	if err != nil {
		return observer.Result{}, outbound.Redact(a.redactor, err)
	}
	result, err := outbound.Exchange(a.client, req, a.redactor)
	return judge(c, result, err)
}

// change is what an attempt does to a document.
type change struct {
	operation, index, id string
	version              *int64
	body                 string
}

// prepare renders the change and, on a first attempt, stores it in d.
func (a *Action) prepare(ctx context.Context, d *observer.Delivery) (change, error) {
	var stored request
	there, err := outbound.LoadRequest(d, &stored)
	if err != nil {
		return change{}, err
	}
	c := change{operation: stored.Operation, version: stored.Version}
	if !there {
		c.operation = a.operation(d.Event)
		if c.version, err = a.renderVersion(ctx, d.Event); err != nil {
			return change{}, fmt.Errorf("version: %w", err)
		}
	}
	if c.index, err = checked(ctx, stored.Index, a.index, d.Event, checkIndex); err != nil {
		return change{}, fmt.Errorf("index: %w", err)
	}
	if c.id, err = checked(ctx, stored.ID, a.id, d.Event, checkID); err != nil {
		return change{}, fmt.Errorf("id_template: %w", err)
	}
	if c.operation != opDelete {
		if c.body, err = a.renderBody(ctx, stored.Body, d.Event); err != nil {
			return change{}, fmt.Errorf("body_template: %w", err)
		}
	}
	if there {
		return c, nil
	}
	return c, outbound.StoreRequest(d, a.keep(c))
}

func (a *Action) keep(c change) request {
	r := request{
		Operation: c.operation, Version: c.version,
		Index: outbound.Keep(a.redactor, c.index), ID: outbound.Keep(a.redactor, c.id),
	}
	if c.operation != opDelete {
		r.Body = outbound.Keep(a.redactor, c.body)
	}
	return r
}

func (a *Action) operation(e *observer.Event) string {
	switch {
	case e.Operation == observer.Delete:
		return opDelete
	case e.Operation == observer.Update && a.merge:
		return opUpdate
	}
	return opIndex
}

// renderVersion is nil where none is sent. A partial update has none: the API
// does not take it there.
func (a *Action) renderVersion(ctx context.Context, e *observer.Event) (*int64, error) {
	if !a.versioned || a.operation(e) == opUpdate {
		return nil, nil //nolint:nilnil // no version is not an error
	}
	if a.version == nil {
		return e.Seq, nil
	}
	text, err := a.version.Render(ctx, e)
	if err != nil {
		return nil, err
	}
	n, err := strconv.ParseInt(strings.TrimSpace(text), 10, 64)
	if err != nil || n < 0 {
		return nil, observer.Permanent(observer.ReasonTemplate, fmt.Errorf("%q is not a whole number from 0", text))
	}
	return &n, nil
}

func (a *Action) renderBody(ctx context.Context, stored outbound.Piece, e *observer.Event) (string, error) {
	body, err := outbound.Resolve(ctx, stored, a.body, e)
	if err != nil {
		return "", err
	}
	if int64(len(body)) > a.maxBody {
		return "", observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("%d bytes, more than max_body_bytes = %d", len(body), a.maxBody))
	}
	return body, nil
}

// checked is a rendered name that the server takes.
func checked(ctx context.Context, stored outbound.Piece, t *template.Template, e *observer.Event, check func(string) error) (string, error) {
	text, err := outbound.Resolve(ctx, stored, t, e)
	if err != nil {
		return "", err
	}
	if err := check(text); err != nil {
		return "", observer.Permanent(observer.ReasonTemplate, err)
	}
	return text, nil
}

func checkID(id string) error {
	if id == "" || len(id) > maxID || id == "." || id == ".." {
		return fmt.Errorf("%.20q is no id of a document: 1 to %d bytes", id, maxID)
	}
	return nil
}
