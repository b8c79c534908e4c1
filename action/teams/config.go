package teams

import "github.com/fraiseql/observer"

// Config is the table of a teams action. It has MessageTemplate, with or without
// TitleTemplate, or CardTemplate.
type Config struct {
	// WebhookURL is the URL that Teams shows for the workflow or the incoming
	// webhook; required. It is a secret: whoever knows it can post.
	WebhookURL observer.Secret `toml:"webhook_url"`
	// TitleTemplate is a heading above the message.
	TitleTemplate string `toml:"title_template"`
	// MessageTemplate is the text of the card, in the Markdown of Adaptive Cards.
	// Values are escaped, so that they cannot make links.
	MessageTemplate string `toml:"message_template"`
	// CardTemplate is a whole Adaptive Card as JSON.
	CardTemplate string `toml:"card_template"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
