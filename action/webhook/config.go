package webhook

import "github.com/fraiseql/observer"

// Config is the table of a webhook action. Every string may contain templates.
type Config struct {
	// URL is where the request goes; required.
	URL string `toml:"url"`
	// Method is the HTTP method; POST unless set.
	Method string `toml:"method"`
	// Headers are added to the request.
	Headers map[string]string `toml:"headers"`
	// BodyTemplate is the body; the event as JSON unless set.
	BodyTemplate string `toml:"body_template"`
	// SigningSecret signs the request by Standard Webhooks ("whsec_" and base64).
	SigningSecret observer.Secret `toml:"signing_secret"`
	// SigningSecrets are several active secrets, for rotation: each signs.
	SigningSecrets []observer.Secret `toml:"signing_secrets"`
	// MaxBodyBytes caps the rendered body; 1 MiB unless set.
	MaxBodyBytes int64 `toml:"max_body_bytes"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
