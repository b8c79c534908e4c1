package push

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// maxContent is the longest content that Firebase takes, in bytes.
const maxContent = 4096

// content is what a message says.
type content struct {
	title, body *template.Template
	data        map[string]*template.Template
}

// request is a rendered message as it is stored. A text that the message does not
// have is "". A value of Data that holds a secret is null: its key belongs to the
// message all the same.
type request struct {
	// Target says, for people, whom the first attempt was for.
	Target outbound.Piece            `json:"target,omitempty"`
	Title  outbound.Piece            `json:"title,omitempty"`
	Body   outbound.Piece            `json:"body,omitempty"`
	Data   map[string]outbound.Piece `json:"data,omitempty"`
}

// envelope is the body of the call.
type envelope struct {
	Message message `json:"message"`
}

type message struct {
	Token        string            `json:"token,omitempty"`
	Topic        string            `json:"topic,omitempty"`
	Condition    string            `json:"condition,omitempty"`
	Notification *notification     `json:"notification,omitempty"`
	Data         map[string]string `json:"data,omitempty"`
}

type notification struct {
	Title string `json:"title,omitempty"`
	Body  string `json:"body,omitempty"`
}

// address says who receives m.
func (m *message) address(field, text string) {
	switch field {
	case "token":
		m.Token = text
	case "topic":
		m.Topic = text
	case "condition":
		m.Condition = text
	}
}

// render makes the message without its target. there says that stored decides
// which data it has.
func (c content) render(ctx context.Context, stored request, there bool, e *observer.Event) (message, error) {
	var m message
	title, err := outbound.Resolve(ctx, stored.Title, c.title, e)
	if err != nil {
		return m, fmt.Errorf("title_template: %w", err)
	}
	body, err := outbound.Resolve(ctx, stored.Body, c.body, e)
	if err != nil {
		return m, fmt.Errorf("body_template: %w", err)
	}
	if title != "" || body != "" {
		m.Notification = &notification{Title: title, Body: body}
	}
	if m.Data, err = c.renderData(ctx, stored.Data, there, e); err != nil {
		return m, err
	}
	return m, checkSize(m)
}

func (c content) renderData(ctx context.Context, stored map[string]outbound.Piece, there bool, e *observer.Event) (map[string]string, error) {
	keys := slices.Sorted(maps.Keys(c.data))
	if there {
		keys = slices.Sorted(maps.Keys(stored))
	}
	data := make(map[string]string, len(keys))
	for _, key := range keys {
		if stored[key] == nil && c.data[key] == nil {
			continue // its template, which holds a secret, is gone
		}
		text, err := outbound.Resolve(ctx, stored[key], c.data[key], e)
		if err != nil {
			return nil, fmt.Errorf("data.%s: %w", key, err)
		}
		data[key] = text
	}
	return data, nil
}

func checkSize(m message) error {
	size := 0
	if m.Notification != nil {
		size = len(m.Notification.Title) + len(m.Notification.Body)
	}
	for key, value := range m.Data {
		size += len(key) + len(value)
	}
	if size <= maxContent {
		return nil
	}
	return observer.Permanent(observer.ReasonTooLarge, fmt.Errorf("%d bytes, a message has at most %d", size, maxContent))
}

// keep is what of a message is stored.
func (m message) keep(redactor observer.Redactor) request {
	shown := m.Notification
	if shown == nil {
		shown = &notification{}
	}
	r := request{
		Target: outbound.Keep(redactor, m.Token+m.Topic+m.Condition),
		Title:  outbound.Keep(redactor, shown.Title), Body: outbound.Keep(redactor, shown.Body),
	}
	if len(m.Data) > 0 {
		r.Data = make(map[string]outbound.Piece, len(m.Data))
	}
	for key, value := range m.Data {
		r.Data[key] = outbound.Keep(redactor, value)
	}
	return r
}
