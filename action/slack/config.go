package slack

import (
	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Config is the table of a slack action.
type Config struct {
	// WebhookURL is the incoming webhook of the workspace; required. It is a
	// secret: whoever knows it can post.
	WebhookURL observer.Secret `toml:"webhook_url"`
	// Channel overrides the channel, where the webhook allows it; a template.
	Channel string `toml:"channel"`
	// MessageTemplate is the text of the message; required. Values are escaped
	// for Slack, so that they cannot mention people or make links.
	MessageTemplate string `toml:"message_template"`

	// TLS has the authority that verifies a server that speaks as Slack does, and
	// the certificate that is shown to it. Whoever makes the client has applied it.
	TLS outbound.TLS `toml:"tls"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
