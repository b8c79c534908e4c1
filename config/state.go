package config

import (
	"path/filepath"

	"github.com/fraiseql/observer"
)

// State is where checkpoints and unfinished deliveries are kept.
type State struct {
	// URL is a SQLite file or a PostgreSQL database. Unless set it is the first
	// PostgreSQL database of the configuration, else a file beside it.
	URL observer.Secret `toml:"url"`
	// Schema is our own schema, in the state database and in every PostgreSQL
	// database that is observed.
	Schema string `toml:"schema" default:"fraiseql_observer"`

	at address
}

// defaultState is the file of a state whose url is not set.
const defaultState = "sqlite:fraiseql-observer.state.db"

// Kind is [SQLite] or [Postgres].
func (st State) Kind() string { return st.at.kind }

// FilePath is the SQLite file of the store, "" for another kind.
func (st State) FilePath() string { return st.at.path }

// Place says where the store is, for people: the file, or host, port, name and
// schema. It has no user and no password.
func (st State) Place() string {
	if st.Kind() == Postgres {
		return st.at.String() + ", schema " + st.Schema
	}
	return st.at.String()
}

// Server is Place without the schema.
func (st State) Server() string { return st.at.String() }

func (st *State) read(s *scope) {
	s.fields(st)
	switch {
	case s.failed("schema"):
	case st.Schema == "":
		s.failKey("schema", "is empty")
	case len(st.Schema) > maxIdentifier:
		s.failKey("schema", "has more than %d bytes", maxIdentifier)
	}
	if s.given("url") {
		st.at = s.checkURL(st.URL)
		return
	}
	s.later = append(s.later, func(c *Config) { st.choose(c, filepath.Dir(s.doc.file)) })
}

// choose fills in the state that is not named.
func (st *State) choose(c *Config, dir string) {
	for _, d := range c.Databases {
		if d.Kind() == Postgres {
			st.URL, st.at = d.URL, d.at
			return
		}
	}
	st.URL = observer.NewSecret(defaultState)
	st.at, _ = addressOf(st.URL, dir) // part of the program, and tested
}
