package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/fraiseql/observer"
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

	path string
}

// NewDatabase is a database with defaults, as one named on the command line. A
// relative path is relative to the working directory.
func NewDatabase(name string, url observer.Secret) (Database, error) {
	d := Database{Name: name, URL: url, PollInterval: time.Second, BatchSize: 500, Retention: 168 * time.Hour}
	if !validName.MatchString(name) {
		return d, fmt.Errorf("database name %q %s", name, nameRule)
	}
	path, err := sqlitePath(url, ".")
	if err != nil {
		return d, fmt.Errorf("database %s: url %w", name, err)
	}
	d.path = path
	return d, nil
}

// Scheme is the part of the URL before the colon, which names the kind of
// source: "sqlite".
func (d Database) Scheme() string { return scheme(d.URL) }

// FilePath is the SQLite file. A path that the configuration has relative is
// relative to the directory of the configuration file.
func (d Database) FilePath() string { return d.path }

func (d *Database) read(s *scope) {
	s.fields(d)
	if d.Name == "" && s.table[nameKey] == nil && s.table[nameKey+twin] == nil && s.at.key == nowhere {
		d.Name = "default" // it exists only because the environment has its url
	}
	s.checkName(d.Name)
	d.path = s.checkURL(d.URL)
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

// checkURL gives the file that a url names and reports what is wrong with it,
// in words that do not repeat it.
func (s *scope) checkURL(url observer.Secret) string {
	const key = "url"
	if s.failed(key) {
		return ""
	}
	path, err := sqlitePath(url, filepath.Dir(s.doc.file))
	if err != nil {
		s.failKey(key, "%s", err.Error())
	}
	return path
}

func (st *State) read(s *scope) {
	s.fields(st)
	st.path = s.checkURL(st.URL)
}

func scheme(url observer.Secret) string {
	name, _, ok := strings.Cut(url.Reveal(), ":")
	if !ok || !bare.MatchString(name) {
		return ""
	}
	return strings.ToLower(name)
}

// sqlitePath is the file that a URL names, relative to dir. The forms are
// sqlite:path/to/file.db, sqlite:/path/to/file.db and sqlite:///path/to/file.db.
func sqlitePath(url observer.Secret, dir string) (string, error) {
	text := url.Reveal()
	if text == "" {
		return "", errors.New(`is missing: write url = "sqlite:path/to/file.db"`)
	}
	if err := checkScheme(scheme(url)); err != nil {
		return "", err
	}
	_, path, _ := strings.Cut(text, ":")
	if rest, ok := strings.CutPrefix(path, "//"); ok {
		if !strings.HasPrefix(rest, "/") {
			return "", errors.New("has two slashes: write sqlite:path/to/file.db or sqlite:///path/to/file.db")
		}
		path = rest
	}
	switch {
	case path == "":
		return "", errors.New(`names no file: write "sqlite:path/to/file.db"`)
	case path == ":memory:":
		return "", errors.New("names a database in memory, which no other process can reach: name a file")
	case strings.ContainsAny(path, "?#\x00"):
		return "", errors.New("must be the path alone, without options after ? or #")
	case strings.HasSuffix(path, "/"):
		return "", errors.New("names a directory: name a file in it")
	}
	if runtime.GOOS == "windows" && len(path) > 2 && path[0] == '/' && path[2] == ':' {
		path = path[1:] // sqlite:///C:/shop.db
	}
	path = filepath.FromSlash(path)
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return path, nil
}

func checkScheme(name string) error {
	const available = `available: "sqlite:path/to/file.db"`
	switch name {
	case "sqlite":
		return nil
	case "postgres", "postgresql", "mysql", "sqlserver":
		return fmt.Errorf("names a %s database, which %s (%s)", name, notAvailable, available)
	case "":
		return fmt.Errorf("has no scheme (%s)", available)
	}
	// The word is not repeated: what is no URL may be a misplaced password.
	return fmt.Errorf("has an unknown scheme (%s)", available)
}
