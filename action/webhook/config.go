package webhook

import (
	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Config is the table of a webhook action. URL, the values of Headers except
// Content-Type, and BodyTemplate may contain templates.
type Config struct {
	// URL is where the request goes; required. http or https, without
	// credentials: those belong in a header.
	URL string `toml:"url"`
	// Method is POST (default), PUT, PATCH, DELETE or GET. GET has a body only
	// where BodyTemplate is set.
	Method string `toml:"method"`
	// Headers are added to the request. Content-Type is application/json
	// unless set.
	Headers map[string]string `toml:"headers"`
	// BodyTemplate is the body; the event as JSON unless set. Values are
	// encoded as JSON where Content-Type is JSON, else put in as they are.
	BodyTemplate string `toml:"body_template"`
	// SigningSecret signs the request by Standard Webhooks: "whsec_" and base64 of
	// at least 24 bytes (HMAC), or "whsk_" and base64 of an ed25519 private key.
	SigningSecret observer.Secret `toml:"signing_secret"`
	// SigningSecrets are several active secrets, for rotation: each signs.
	SigningSecrets []observer.Secret `toml:"signing_secrets"`
	// MaxBodyBytes caps the rendered body; 1 MiB unless set.
	MaxBodyBytes int64 `toml:"max_body_bytes"`

	// TLS has the authority that verifies the receiver and the certificate that is
	// shown to it. Whoever makes the client has applied it.
	TLS outbound.TLS `toml:"tls"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
