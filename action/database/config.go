package database

import (
	"time"

	"github.com/fraiseql/observer"
)

// Config is the table of a database action.
type Config struct {
	// URL is the database, postgres://user:password@host:port/name; required. It
	// is a secret.
	URL observer.Secret `toml:"url"`
	// FunctionName is the function to call, alone or as schema.function, written
	// as it is stored (without quotes; case matters); required.
	FunctionName string `toml:"function_name"`
	// Params are the arguments, a template of a JSON list, or of an object for
	// named arguments. One argument, the event as JSON, unless set.
	Params string `toml:"params"`
	// StatementTimeout ends the function on the server; what is left of the
	// attempt unless set. It is never longer than that.
	StatementTimeout time.Duration `toml:"statement_timeout"`
	// MaxConnections bounds the connections of this action; 4 unless set, at
	// most 100.
	MaxConnections int `toml:"max_connections"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
