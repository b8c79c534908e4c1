package config

import (
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
	"github.com/fraiseql/observer/internal/outbound"
)

// reader fills a Config from a document and the environment and collects every
// mistake on the way.
type reader struct {
	doc       *document
	lookup    func(string) (string, bool)
	vault     vault
	errors    Errors
	broken    map[string]bool   // the keys that have a mistake
	origins   map[string]string // the variables that keys took their values from
	variables map[string]bool
	// later are checks that need the whole configuration.
	later    []func(*Config)
	deps     Deps // for building actions, to see what is wrong with them
	compiler *condition.Compiler
}

// scope is one table being read. The table may be absent: its keys then come
// from the environment and the defaults.
type scope struct {
	*reader
	at    *value            // the table, or what surrounds it where it is absent
	table map[string]*value // nil when absent
	path  string            // "observers[0].retry"
	env   string            // "FRAISEQL_OBSERVERS_0_RETRY"
	known []string          // the keys that were asked for
	// paired are the keys that may stand instead of known ones.
	paired []string
	// lenient suppresses complaints about unknown keys, where it is not known
	// which keys there are.
	lenient bool
	// twins says that each string key has a twin key_env that names a variable.
	twins bool
	// secrets came from the environment, or stand under a key that is secret.
	secrets []observer.Secret
	// public are the words that the key being read may have: no secrets, wherever
	// they came from.
	public []string
	// unexpanded are the texts that the environment has a part in, as they were
	// given, by key.
	unexpanded map[string]string
}

// section is a table with rules of its own. Others are read by [scope.fields].
type section interface{ read(s *scope) }

// read fills target, a pointer to a struct, and reports the keys nobody asked for.
func (s *scope) read(target any) {
	if own, ok := target.(section); ok {
		own.read(s)
	} else {
		s.fields(target)
	}
	s.unknown()
}

// fields fills the fields of a struct that have a toml tag. A field Redactor,
// which the configurations of actions have, learns the secrets of the table.
func (s *scope) fields(target any) {
	v := reflect.ValueOf(target).Elem()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("toml")
		if key == "" || key == "-" {
			continue
		}
		s.known = append(s.known, key)
		switch pointer := v.Field(i).Addr(); {
		case isList(field.Type):
			s.tables(key, v.Field(i))
		case isTable(field.Type):
			s.child(key).read(pointer.Interface())
			if files, ok := reflect.TypeAssert[*outbound.TLS](pointer); ok {
				files.In(filepath.Dir(s.doc.file))
			}
		case field.Type == reflect.TypeFor[*Alert](), field.Type == reflect.TypeFor[*Fallback]():
			s.optional(key, v.Field(i))
		default:
			s.leaf(key, field.Tag, plain(pointer))
		}
	}
	if redactor := v.FieldByName("Redactor"); redactor.IsValid() {
		redactor.Set(reflect.ValueOf(observer.NewRedactor(outbound.Forms(s.secrets...)...)))
	}
}

// isTable and isList tell tables and arrays of tables from single values.
func isTable(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && t != reflect.TypeFor[observer.Secret]()
}

func isList(t reflect.Type) bool {
	return t.Kind() == reflect.Slice && isTable(t.Elem()) && t.Elem() != reflect.TypeFor[netip.Prefix]()
}

// plain is a pointer to a field; one to a string where the field's type is a kind
// of string.
func plain(pointer reflect.Value) any {
	if pointer.Elem().Kind() == reflect.String {
		pointer = pointer.Convert(reflect.TypeFor[*string]())
	}
	return pointer.Interface()
}

// child is the scope of the table under key, absent or not.
func (s *scope) child(key string) *scope {
	v := s.table[key]
	if v == nil {
		return s.nested(key, s.at, nil)
	}
	table, ok := v.table()
	if !ok {
		message := "must be a table, not " + kind(v)
		if _, list := v.list(); list && s.path == "" {
			message += ": write [" + key + "] once"
		}
		s.fail(v.at, join(s.path, key), "%s", message)
	}
	return s.nested(key, v, table)
}

// inner is the scope of the table under key, for another look at it.
func (s *scope) inner(key string) *scope {
	if v := s.table[key]; v != nil {
		if table, ok := v.table(); ok {
			return s.nested(key, v, table)
		}
	}
	return s.nested(key, s.at, nil)
}

func (s *scope) nested(key string, at *value, table map[string]*value) *scope {
	return &scope{
		reader: s.reader, at: at, table: table, path: join(s.path, key), env: variable(s.env, key), unexpanded: map[string]string{},
		// The tables that hold credentials; what is inside them inherits it.
		twins: s.twins || slices.Contains([]string{"databases", "state", "smtp", "redis", "nats", "network", "actions", "alert"}, key),
	}
}

// optional reads a table into a pointer that stays nil when there is none.
func (s *scope) optional(key string, v reflect.Value) {
	if s.table[key] == nil {
		return
	}
	v.Set(reflect.New(v.Type().Elem()))
	s.child(key).read(v.Interface())
}

// tables reads an array of tables.
func (s *scope) tables(key string, v reflect.Value) {
	items := s.items(key)
	v.Set(reflect.MakeSlice(v.Type(), len(items), len(items)))
	for i, item := range items {
		if item.table != nil {
			item.read(v.Index(i).Addr().Interface())
		}
	}
}

func (s *scope) items(key string) []*scope {
	v := s.table[key]
	if v == nil {
		return nil
	}
	list, ok := v.list()
	if !ok {
		s.fail(v.at, join(s.path, key), "must be an array of tables, not %s: write [[%s]]",
			kind(v), strings.Join(append(names(s.path), key), "."))
		return nil
	}
	items := make([]*scope, len(list))
	for i, item := range list {
		table, ok := item.table()
		item := s.nested(key, item, table)
		item.path, item.env = item.path+"["+strconv.Itoa(i)+"]", item.env+"_"+strconv.Itoa(i)
		if !ok {
			s.fail(item.at.at, item.path, "must be a table, not %s", kind(item.at))
		}
		items[i] = item
	}
	return items
}

// fail records a mistake at an offset.
func (r *reader) fail(offset int, key, format string, args ...any) {
	line, column := r.doc.position(offset)
	message := fmt.Sprintf(format, args...)
	if name := r.origins[key]; name != "" {
		message += " (environment variable " + name + ")"
	}
	r.broken[key] = true
	r.errors = append(r.errors, Error{File: r.doc.file, Line: line, Column: column, Key: key, Message: message})
}

// failKey records a mistake of the value under key, or of the table where the
// key is absent.
func (s *scope) failKey(key, format string, args ...any) {
	s.fail(s.offset(key), join(s.path, key), format, args...)
}

// failed reports whether a mistake of the key was recorded already, so that a
// later check does not add one that follows from it.
func (s *scope) failed(key string) bool { return s.broken[join(s.path, key)] }

// given reports whether the file or the environment has the key.
func (s *scope) given(key string) bool {
	return s.table[key] != nil || s.table[key+twin] != nil || s.origins[join(s.path, key)] != ""
}

// offset is where the value under key begins: written as key or key_env, or
// failing both the table.
func (s *scope) offset(key string) int {
	for _, name := range []string{key, key + twin} {
		if v := s.table[name]; v != nil {
			return v.at
		}
	}
	return s.at.key
}

// unknown reports the keys of the table that nobody asked for.
func (s *scope) unknown() {
	for _, key := range slices.Sorted(maps.Keys(s.table)) {
		if s.lenient || slices.Contains(s.known, key) || slices.Contains(s.paired, key) {
			continue
		}
		path := join(s.path, key)
		message := "unknown key" + suggestion(key, s.known, s.paired)
		if unavailable(path) {
			message = notAvailable
		}
		s.fail(s.table[key].key, path, "%s", message)
	}
}

// join makes the path of a key as people read it. A key that TOML would quote
// is quoted.
func join(path, key string) string {
	if !bare.MatchString(key) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// names are the table names of a path, without the indexes.
func names(path string) []string {
	if path == "" {
		return nil
	}
	return strings.Split(indexes.ReplaceAllString(path, ""), ".")
}

// kind names what a value is, in words of TOML.
func kind(v *value) string {
	switch v.data.(type) {
	case string:
		return "a string"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case bool:
		return "a boolean"
	case map[string]*value:
		return "a table"
	case []*value:
		return "a list"
	}
	return "a date or time"
}
