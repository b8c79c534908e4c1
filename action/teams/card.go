package teams

import (
	"encoding/json"
	"fmt"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// maxBody is the longest message that Teams takes, in bytes.
const maxBody = 28 << 10

// message is what both kinds of webhooks read.
type message struct {
	Type        string       `json:"type"`
	Attachments []attachment `json:"attachments"`
}

type attachment struct {
	ContentType string          `json:"contentType"`
	ContentURL  *string         `json:"contentUrl"` // null, because the card is in Content
	Content     json.RawMessage `json:"content"`
}

// card is an Adaptive Card with texts only.
type card struct {
	Schema  string      `json:"$schema"`
	Type    string      `json:"type"`
	Version string      `json:"version"`
	Body    []textBlock `json:"body"`
}

type textBlock struct {
	Type   string `json:"type"`
	Text   string `json:"text"`
	Size   string `json:"size,omitempty"`
	Weight string `json:"weight,omitempty"`
	Wrap   bool   `json:"wrap"`
}

// newCard is the card for a title, which may be "", and a text.
func newCard(title, text string) (json.RawMessage, error) {
	c := card{Schema: "http://adaptivecards.io/schemas/adaptive-card.json", Type: "AdaptiveCard", Version: "1.4"}
	if title != "" {
		c.Body = append(c.Body, textBlock{Type: "TextBlock", Text: title, Size: "Large", Weight: "Bolder", Wrap: true})
	}
	c.Body = append(c.Body, textBlock{Type: "TextBlock", Text: text, Wrap: true})
	return outbound.EncodeJSON(c)
}

// newBody puts a card into a message.
func newBody(content json.RawMessage) ([]byte, error) {
	body, err := outbound.EncodeJSON(message{
		Type:        "message",
		Attachments: []attachment{{ContentType: "application/vnd.microsoft.card.adaptive", Content: content}},
	})
	if err != nil {
		return nil, err
	}
	if len(body) > maxBody {
		return nil, observer.Permanent(observer.ReasonTooLarge,
			fmt.Errorf("%d bytes, Teams takes at most %d", len(body), maxBody))
	}
	return body, nil
}
