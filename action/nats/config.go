package nats

import "github.com/fraiseql/observer"

// The values of the ack key.
const (
	ackJetStream = "jetstream"
	ackNone      = "none"
)

// Config is the table of a nats action.
type Config struct {
	// URL is the server, nats://user:password@host:port or tls://..., or several
	// separated by commas; required. It is a secret.
	URL observer.Secret `toml:"url"`
	// Subject is where to publish, a template; required. A value is one token or
	// a part of one: letters, digits, - and _ stay, every other byte is
	// percent-encoded.
	Subject string `toml:"subject"`
	// BodyTemplate is the message, a template of JSON; the event as JSON unless set.
	BodyTemplate string `toml:"body_template"`
	// Ack is jetstream (default), which waits until a stream has stored the
	// message, or none, which waits until the server has it.
	Ack string `toml:"ack"`
	// Credentials is the content of a credentials file (JWT and seed);
	// CredentialsFile is its path. One of them at most.
	Credentials     observer.Secret `toml:"credentials"`
	CredentialsFile string          `toml:"credentials_file"`
	// CAFile verifies the server instead of the system's authorities. CertFile
	// and KeyFile are shown to it; all are PEM.
	CAFile   string `toml:"ca_file"`
	CertFile string `toml:"cert_file"`
	KeyFile  string `toml:"key_file"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
