package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Database is a database whose committed changes are read.
type Database struct {
	// Name is unique: checkpoints are kept under it.
	Name string `toml:"name"`
	// URL says where it is. Its scheme picks the kind of source.
	URL observer.Secret `toml:"url"`
	// PollInterval is how often an idle source looks for changes that nothing
	// announced.
	PollInterval time.Duration `toml:"poll_interval" default:"1s" min:"1ms" max:"1h"`
	// BatchSize is how many entries are read at once.
	BatchSize int `toml:"batch_size" default:"500" min:"1" max:"100000"`
	// Retention is how long handled entries stay in the log; 0 keeps them for ever.
	Retention time.Duration `toml:"retention" default:"168h" min:"0s" max:"87600h"`
	// Start says where the log is read from while there is no checkpoint:
	// [StartBeginning] or [StartNow].
	Start string `toml:"start" default:"beginning" choice:"beginning,now"`
	// Log is the change log of a PostgreSQL database, as schema.table.
	Log string `toml:"log" default:"core.tb_entity_change_log"`

	at address
}

// The values of [Database.Start].
const (
	// StartBeginning reads everything that the log still holds.
	StartBeginning = "beginning"
	// StartNow reads what is committed from the first start on.
	StartNow = "now"
)

// NewDatabase is a database with defaults, as one named on the command line. A
// relative path is relative to the working directory.
func NewDatabase(name string, url observer.Secret) (Database, error) {
	d := Database{
		Name: name, URL: url, PollInterval: time.Second, BatchSize: 500, Retention: 168 * time.Hour,
		Start: StartBeginning, Log: defaultLog,
	}
	if !validName.MatchString(name) {
		return d, fmt.Errorf("database name %q %s", name, nameRule)
	}
	at, err := addressOf(url, ".")
	if err != nil {
		return d, fmt.Errorf("database %s: url %w", name, err)
	}
	d.at = at
	return d, nil
}

// Kind is [SQLite] or [Postgres].
func (d Database) Kind() string { return d.at.kind }

// FilePath is the SQLite file, "" for another kind. A path that the
// configuration has relative is relative to the directory of the configuration
// file.
func (d Database) FilePath() string { return d.at.path }

// Place says where the database is, for people: the file, or host, port and
// name. It has no user and no password.
func (d Database) Place() string { return d.at.String() }

// LogName is Log taken apart.
func (d Database) LogName() changelog.Name {
	schema, table, _ := strings.Cut(d.Log, ".")
	return changelog.Name{Schema: schema, Table: table}
}

func (d *Database) read(s *scope) {
	s.fields(d)
	if d.Name == "" && s.table[nameKey] == nil && s.table[nameKey+twin] == nil && s.at.key == nowhere {
		d.Name = "default" // it exists only because the environment has its url
	}
	s.checkName(d.Name)
	d.at = s.checkURL(d.URL)
	s.checkLog(d)
}

// defaultLog is where FraiseQL has its log.
const defaultLog = "core.tb_entity_change_log"

// maxIdentifier is the length of a PostgreSQL name in bytes; longer ones are cut
// off.
const maxIdentifier = 63

func (s *scope) checkLog(d *Database) {
	const key = "log"
	schema, table, ok := strings.Cut(d.Log, ".")
	switch {
	case s.failed(key):
	case d.Kind() == SQLite && d.Log != defaultLog:
		s.failKey(key, "is for PostgreSQL: the change log of a SQLite database is always called tb_entity_change_log")
	case !ok || schema == "" || table == "" || strings.Contains(table, "."):
		s.failKey(key, "must be a schema and a table, such as core.tb_entity_change_log")
	case len(schema) > maxIdentifier || len(table) > maxIdentifier:
		s.failKey(key, "has a name of more than %d bytes", maxIdentifier)
	}
}

const nameKey = "name"

// checkName reports a name that is missing or malformed.
func (s *scope) checkName(name string) {
	switch {
	case s.failed(nameKey):
	case name == "":
		s.failKey(nameKey, "is missing")
	case !validName.MatchString(name):
		s.failKey(nameKey, nameRule)
	}
}

// checkURL says where a url leads and reports what is wrong with it, in words
// that do not repeat it.
func (s *scope) checkURL(url observer.Secret) address {
	const key = "url"
	if s.failed(key) {
		return address{}
	}
	at, err := addressOf(url, filepath.Dir(s.doc.file))
	if err != nil {
		s.failKey(key, "%s", err.Error())
	}
	return at
}
