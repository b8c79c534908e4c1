package cache

import "github.com/fraiseql/observer"

// The values of the action key.
const (
	invalidate        = "invalidate"
	invalidatePattern = "invalidate_pattern"
)

// Config is the table of a cache action.
type Config struct {
	// URL is the Redis server, redis://user:password@host:port/database, or
	// rediss:// for TLS; required. It is a secret.
	URL observer.Secret `toml:"url"`
	// KeyPattern is the key to remove, or the pattern of the keys, a template;
	// required. In a pattern values are escaped: only what the template itself
	// says matches more than one key.
	KeyPattern string `toml:"key_pattern"`
	// Action is invalidate (default), which removes one key, or
	// invalidate_pattern, which searches all keys.
	Action string `toml:"action"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
