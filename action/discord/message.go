package discord

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
	"github.com/fraiseql/observer/template"
)

// What Discord takes: characters of a text, and embeds.
const (
	maxText   = 2000
	maxEmbeds = 10
)

// request is a rendered message as it is stored. A part that the message does not
// have is "".
type request struct {
	Text   outbound.Piece `json:"text,omitempty"`
	Embeds outbound.Piece `json:"embeds,omitempty"`
}

// payload is the body of the call.
type payload struct {
	Content         string          `json:"content,omitempty"`
	Embeds          json.RawMessage `json:"embeds,omitempty"`
	Username        string          `json:"username,omitempty"`
	AllowedMentions mentions        `json:"allowed_mentions"`
}

// mentions say what a text may notify. An empty list, which must not be null,
// means nobody.
type mentions struct {
	Parse []string `json:"parse"`
}

// render makes the body, and what of it is to be stored.
func (a *Action) render(ctx context.Context, stored request, e *observer.Event) (payload, request, error) {
	p := payload{AllowedMentions: mentions{Parse: append([]string{}, a.mentions...)}}
	text, err := resolve(ctx, stored.Text, a.message, e)
	if err != nil {
		return p, request{}, fmt.Errorf("message_template: %w", err)
	}
	if n := utf8.RuneCountInString(text); n > maxText {
		return p, request{}, observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("message_template: %d characters, Discord takes at most %d", n, maxText))
	}
	embeds, err := resolve(ctx, stored.Embeds, a.embeds, e)
	if err != nil {
		return p, request{}, fmt.Errorf("embeds_template: %w", err)
	}
	p.Content = text
	if p.Embeds, err = list(embeds); err != nil {
		return p, request{}, fmt.Errorf("embeds_template: %w", err)
	}
	if p.Username, err = resolve(ctx, nil, a.username, e); err != nil {
		return p, request{}, fmt.Errorf("username: %w", err)
	}
	redactor := a.webhook.Redactor()
	return p, request{Text: outbound.Keep(redactor, text), Embeds: outbound.Keep(redactor, embeds)}, nil
}

// resolve is the stored piece, or t rendered; "" without a template.
func resolve(ctx context.Context, stored outbound.Piece, t *template.Template, e *observer.Event) (string, error) {
	if stored == nil && t == nil {
		return "", nil
	}
	return outbound.Resolve(ctx, stored, t, e)
}

// list makes a list of embeds of what is one already, or one embed; nil of "".
func list(text string) (json.RawMessage, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	if strings.HasPrefix(text, "{") {
		text = "[" + text + "]"
	}
	var embeds []map[string]json.RawMessage
	if err := json.Unmarshal([]byte(text), &embeds); err != nil {
		return nil, observer.Permanent(observer.ReasonTemplate, errors.New("is neither an embed (a JSON object) nor a list of them"))
	}
	if len(embeds) > maxEmbeds {
		return nil, observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("%d embeds, Discord takes at most %d", len(embeds), maxEmbeds))
	}
	return json.RawMessage(text), nil
}

// address is where the message goes: the webhook, and the thread if there is one.
func (a *Action) address(ctx context.Context, e *observer.Event) (*outbound.SecretURL, error) {
	if a.thread == nil {
		return a.webhook, nil
	}
	thread, err := outbound.Text(ctx, a.thread, e)
	if err != nil {
		return nil, fmt.Errorf("thread_id: %w", err)
	}
	return a.webhook.With("thread_id", thread), nil
}
