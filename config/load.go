package config

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"github.com/fraiseql/observer/condition"
)

// maxFile is the size of a configuration that is read. It only keeps a mistaken
// --config (a database, a device) from filling the memory.
const maxFile = 4 << 20

// Load reads the configuration file at path. The environment comes from lookup,
// os.LookupEnv in a program. It gives a *[FileError] when the file cannot be
// read, and [Errors] with every mistake that is in it.
func Load(path string, lookup func(string) (string, bool)) (*Config, error) {
	// Before it is read, so that what changes meanwhile shows as a difference.
	before, err := os.Stat(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	data, err := readFile(path)
	if err != nil {
		return nil, &FileError{Path: path, Err: err}
	}
	c, err := Parse(path, data, lookup)
	if err == nil {
		c.Modified, c.Size = before.ModTime(), before.Size()
	}
	return c, err
}

func readFile(path string) (_ []byte, err error) {
	f, err := os.Open(path) //nolint:gosec // reading the file that the operator names is the task
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("it is larger than %d MiB, so it is no configuration", maxFile>>20)
	}
	return data, nil
}

// Parse reads a configuration from data. The name of the file is for messages,
// and relative paths are relative to its directory. A nil lookup is an empty
// environment. Mistakes are returned as [Errors].
func Parse(file string, data []byte, lookup func(string) (string, bool)) (*Config, error) {
	if lookup == nil {
		lookup = func(string) (string, bool) { return "", false }
	}
	doc, err := parseDocument(file, data)
	if err != nil {
		return nil, err
	}
	r := &reader{doc: doc, lookup: lookup, variables: map[string]bool{}, broken: map[string]bool{}, origins: map[string]string{}}
	c := &Config{Path: file, variables: r.variables}
	r.read(c)
	if len(r.errors) > 0 {
		return nil, r.errors.sorted()
	}
	return c, nil
}

func (r *reader) read(c *Config) {
	r.databaseFromEnvironment()
	root := r.root()
	root.read(c)
	r.deps = Deps{
		Network: c.Network.Outbound(),
		SMTP:    c.SMTP, Logger: slog.New(slog.DiscardHandler),
	}
	for _, check := range r.later {
		check(c)
	}
	root.checkDatabases(c)
	root.checkObservers(c)
	root.checkRetention(c)
	root.checkDedup(c)
	root.checkTransport(c)
	r.checkVariables()
}

// root is the scope of the whole document.
func (r *reader) root() *scope {
	root := &scope{reader: r, at: r.doc.root, unexpanded: map[string]string{}}
	root.table, _ = r.doc.root.table()
	return root
}

// databaseFromEnvironment adds the database that only the environment names.
func (r *reader) databaseFromEnvironment() {
	root, _ := r.doc.root.table()
	if root["databases"] != nil {
		return
	}
	for _, name := range []string{"FRAISEQL_DATABASES_0_URL", "DATABASE_URL"} {
		if _, ok := r.lookup(name); ok {
			only := &value{data: map[string]*value{}, key: nowhere, at: nowhere}
			root["databases"] = &value{data: []*value{only}, key: nowhere, at: nowhere}
			return
		}
	}
}

func (s *scope) checkDatabases(c *Config) {
	const section = "databases"
	transport := s.inner("transport") // whose mistakes leave open whether there must be one
	if len(c.Databases) == 0 && c.ReadsDatabases() && !transport.failed("transport") && !transport.failed("run_bridge") && !s.broken[section] {
		offset := nowhere
		if v := s.table[section]; v != nil {
			offset = v.at
		}
		s.fail(offset, section, "there is no database: write [[databases]] with a name and a url, or set DATABASE_URL")
	}
	seenNames, seenPlaces := map[string]int{}, map[string]int{}
	for i, d := range c.Databases {
		s.unique(seenNames, section, nameKey, i, d.Name)
		at := d.Place()
		if d.Kind() == Postgres { // several logs in one database are several sources
			at += " " + d.Log
		}
		s.unique(seenPlaces, section, "url", i, at)
	}
}

func (s *scope) checkObservers(c *Config) {
	seen := map[string]int{}
	for i, o := range c.Observers {
		s.unique(seen, "observers", nameKey, i, o.Name)
	}
}

// unique reports a value that an earlier element of the list has too.
func (s *scope) unique(seen map[string]int, list, key string, i int, text string) {
	first, twice := seen[text]
	if text == "" || !twice {
		seen[text] = i
		return
	}
	path := join(s.path, list)
	line, _ := s.doc.position(s.elementKey(list, first, key))
	s.fail(s.elementKey(list, i, key), fmt.Sprintf("%s[%d].%s", path, i, key), "is the same as that of %s[%d]%s", path, first, onLine(line))
}

func onLine(line int) string {
	if line == 0 {
		return ""
	}
	return fmt.Sprintf(" on line %d", line)
}

// elementKey is where a key of the i-th element of a list stands.
func (s *scope) elementKey(list string, i int, key string) int {
	items, _ := s.table[list].list()
	item := scope{reader: s.reader, at: items[i]}
	item.table, _ = items[i].table()
	return item.offset(key)
}

// checkVariables reports variables that FraiseQL users know and this version lacks.
func (r *reader) checkVariables() {
	for _, name := range unavailableVariables() {
		if _, ok := r.lookup(name); ok {
			r.fail(nowhere, name, "this environment variable %s: unset it", notAvailable)
		}
	}
}

// conditions is the compiler, made when the first condition needs it.
func (r *reader) conditions() (*condition.Compiler, error) {
	if r.compiler == nil {
		compiler, err := condition.NewCompiler()
		if err != nil {
			return nil, err
		}
		r.compiler = compiler
	}
	return r.compiler, nil
}
