package search

import (
	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/outbound"
)

// The values of the update key.
const (
	updateReplace = "replace"
	updateMerge   = "merge"
)

// noVersion is the value of the version key that sends none.
const noVersion = "none"

// Config is the table of a search action.
type Config struct {
	// URL is the server, https://host:9200; required.
	URL string `toml:"url"`
	// Index is where the documents are, a template; required.
	Index string `toml:"index"`
	// IDTemplate is the id of the document; the id of the entity unless set.
	IDTemplate string `toml:"id_template"`
	// BodyTemplate is the document, a template of JSON; the data of the event
	// unless set.
	BodyTemplate string `toml:"body_template"`
	// Update says what an UPDATE does: replace (default) indexes the whole
	// document, merge puts the fields of the body into the one that is there.
	Update string `toml:"update"`
	// Version is a template of a number that grows with each change of an entity:
	// a document of a higher version is left alone. event.seq, where the event has
	// one, unless set; "none" sends no version.
	Version string `toml:"version"`
	// Username and Password sign in; APIKey does so instead.
	Username string          `toml:"username"`
	Password observer.Secret `toml:"password"`
	APIKey   observer.Secret `toml:"api_key"`
	// TLS has the authority that verifies the server and the certificate that is
	// shown to it. Whoever makes the client has applied it.
	TLS outbound.TLS `toml:"tls"`
	// MaxBodyBytes caps the document; 10 MiB unless set.
	MaxBodyBytes int64 `toml:"max_body_bytes"`

	// Redactor knows the secrets that the configuration took from the environment.
	Redactor observer.Redactor `toml:"-"`
}
