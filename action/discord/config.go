package discord

import "github.com/fraiseql/observer"

// Config is the table of a discord action. It has MessageTemplate, EmbedsTemplate
// or both.
type Config struct {
	// WebhookURL is the URL of the webhook as Discord shows it; required. It is a
	// secret: whoever knows it can post.
	WebhookURL observer.Secret `toml:"webhook_url"`
	// MessageTemplate is the text of the message, in Discord's Markdown. Values
	// are escaped, so that they cannot format, make links or mention anybody.
	MessageTemplate string `toml:"message_template"`
	// EmbedsTemplate is a JSON list of up to 10 embeds, or one embed.
	EmbedsTemplate string `toml:"embeds_template"`
	// Username is shown as the sender instead of the name of the webhook; a
	// template.
	Username string `toml:"username"`
	// ThreadID is the thread of the channel to post in; a template.
	ThreadID string `toml:"thread_id"`
	// AllowedMentions are what the text may notify: "users", "roles", "everyone".
	// Nobody unless set.
	AllowedMentions []string `toml:"allowed_mentions"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
