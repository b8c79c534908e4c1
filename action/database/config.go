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
	StatementTimeout time.Duration `toml:"statement_timeout" default:"0s" min:"0s" max:"24h"`
	// MaxConnections bounds the connections of this action; 4 unless set.
	MaxConnections int `toml:"max_connections" default:"4" min:"1" max:"100"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
