package email

import (
	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// Config is the table of an email action. Every string may contain templates.
type Config struct {
	// To are the recipients; To or ToTemplate is required. An entry may hold
	// several addresses separated by commas, but a value fills in only one.
	To Addresses `toml:"to"`
	// ToTemplate is another word for To.
	ToTemplate string    `toml:"to_template"`
	CC         Addresses `toml:"cc"`
	BCC        Addresses `toml:"bcc"`
	ReplyTo    string    `toml:"reply_to"`
	// From overrides the sender of the [smtp] section.
	From string `toml:"from"`
	// Subject or SubjectTemplate is required; they mean the same.
	Subject         string `toml:"subject"`
	SubjectTemplate string `toml:"subject_template"`
	// BodyTemplate is the plain text, HTMLTemplate the HTML alternative; at
	// least one is required. Values are escaped in HTML.
	BodyTemplate string `toml:"body_template"`
	HTMLTemplate string `toml:"html_template"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}

// Server is the [smtp] section: the server that all email actions use.
type Server struct {
	Host string `toml:"host"`
	// Port is 587 with starttls, 465 with tls and 25 with none unless set.
	Port int `toml:"port"`
	// Username and Password sign in, by the best mechanism the server offers:
	// SCRAM-SHA-256, SCRAM-SHA-1, PLAIN, LOGIN, CRAM-MD5. PLAIN and LOGIN are
	// used only over TLS or to the loopback interface.
	Username string          `toml:"username"`
	Password observer.Secret `toml:"password"`
	// TLS is starttls (default), tls or none. Nothing falls back to plain text.
	TLS string `toml:"tls"`
	// Certificates has the authority that verifies the server and the certificate
	// that is shown to it. It is for a server with TLS.
	Certificates outbound.TLS `toml:"certificates"`
	// From is the sender of every message that does not name its own.
	From string `toml:"from"`
}

// Addresses is a list of recipients. In TOML it is a list of strings, or one
// string.
type Addresses []string

// UnmarshalText reads the form that is one string; a list is read as any other.
func (a *Addresses) UnmarshalText(text []byte) error {
	*a = Addresses{string(text)}
	return nil
}
