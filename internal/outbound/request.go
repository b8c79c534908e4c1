package outbound

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/fraiseql/observer"
)

// Renderer is a compiled template.
type Renderer interface {
	Render(ctx context.Context, e *observer.Event) (string, error)
}

// Piece is one rendered part of a request as it is stored: nil when it is not
// stored, because it holds a secret.
type Piece *string

// Keep is the piece to store for text: none when redactor finds a secret in it.
func Keep(redactor observer.Redactor, text string) Piece {
	if redactor.Contains(text) {
		return nil
	}
	return &text
}

// Resolve is the stored piece, or t rendered for e when none is stored.
func Resolve(ctx context.Context, stored Piece, t Renderer, e *observer.Event) (string, error) {
	if stored != nil {
		return *stored, nil
	}
	text, err := t.Render(ctx, e)
	return Clean(text), err
}

// Clean is text as valid UTF-8. Storing replaces what is not, and a later
// attempt must send what the first one sent.
func Clean(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// prepared reports whether d has a stored request.
func prepared(d *observer.Delivery) bool {
	return len(d.Request) > 0 && string(d.Request) != "null"
}

// Prepare has the request of d rendered and stored by prepare, unless it was
// before: an action's Prepare.
func Prepare[R any](
	ctx context.Context, d *observer.Delivery, redactor observer.Redactor, prepare func(context.Context, *observer.Delivery) (R, error),
) error {
	if prepared(d) {
		return nil
	}
	_, err := prepare(ctx, d)
	return Redact(redactor, err)
}

// LoadRequest decodes the stored request of d into request and reports whether
// there was one. One in another form is a permanent error: the action that
// stored it is no longer configured at this place.
func LoadRequest(d *observer.Delivery, request any) (bool, error) {
	if !prepared(d) {
		return false, nil
	}
	dec := json.NewDecoder(bytes.NewReader(d.Request))
	dec.DisallowUnknownFields()
	if err := dec.Decode(request); err != nil {
		return false, observer.Permanent(observer.ReasonUnconfigured,
			fmt.Errorf("the stored request is not of this type of action: %w", err))
	}
	return true, nil
}

// StoreRequest encodes request into d.
func StoreRequest(d *observer.Delivery, request any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // for people: "a < b", not escapes
	if err := enc.Encode(request); err != nil {
		return observer.Permanent(observer.ReasonTemplate, fmt.Errorf("encode request: %w", err))
	}
	d.Request = bytes.TrimRight(buf.Bytes(), "\n")
	return nil
}
