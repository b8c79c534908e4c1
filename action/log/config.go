package log

import "github.com/fraiseql/observer"

// Config is the table of a log action.
type Config struct {
	// Level is debug, info (default), warn or error.
	Level string `toml:"level"`
	// MessageTemplate is the message; the event as JSON unless set.
	MessageTemplate string `toml:"message_template"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
