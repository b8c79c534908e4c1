package config

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
	"unicode/utf8"

	toml "github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// value is something in the document: a table, a list or a scalar as go-toml
// decodes it (string, int64, float64, bool, a date or time).
type value struct {
	data any // map[string]*value, []*value or a scalar
	// key and at are the offsets of the key and of the value; they are equal
	// where the value has no place of its own, such as a table.
	key, at int
	// raw is the source text of a string, quotes included.
	raw string
}

func (v *value) table() (map[string]*value, bool) {
	t, ok := v.data.(map[string]*value)
	return t, ok
}

func (v *value) list() ([]*value, bool) {
	l, ok := v.data.([]*value)
	return l, ok
}

// document is a parsed file: go-toml's decoded values with the offsets that its
// parser knows. Decoding into structs would lose the offsets of everything that
// is well-formed TOML and a mistake nevertheless.
type document struct {
	file string
	text []byte
	root *value
}

func parseDocument(file string, text []byte) (*document, error) {
	// Editors on Windows begin a file with a byte order mark.
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	d := &document{file: file, text: text}
	decoded := map[string]any{}
	if err := toml.Unmarshal(text, &decoded); err != nil {
		return nil, Errors{d.syntaxError(err)}
	}
	index := indexer{places: map[string]place{}, lists: map[string]int{}}
	index.document(text)
	d.root = index.value("", decoded, place{key: nowhere, at: nowhere})
	return d, nil
}

func (d *document) syntaxError(err error) Error {
	e := Error{File: d.file, Line: 1, Column: 1}
	message := err.Error()
	if decode, ok := errors.AsType[*toml.DecodeError](err); ok {
		line, column := decode.Position()
		e.Line, e.Column = line, d.characters(line, column)
	}
	message = strings.TrimPrefix(message, "toml: ")
	if strings.Contains(message, "at start of value") {
		message += ` (a text needs quotes: key = "text")`
	}
	e.Message = "not valid TOML: " + message
	return e
}

// characters turns a column in bytes into one in characters.
func (d *document) characters(line, column int) int {
	rest := d.text
	for range line - 1 {
		_, rest, _ = bytes.Cut(rest, []byte("\n"))
	}
	return utf8.RuneCount(rest[:min(max(column-1, 0), len(rest))]) + 1
}

// nowhere is the offset of what stands in no line of the file.
const nowhere = -1

// position is the line and column of an offset, both from 1, or zeros for nowhere.
func (d *document) position(offset int) (line, column int) {
	if offset < 0 {
		return 0, 0
	}
	before := d.text[:min(offset, len(d.text))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return bytes.Count(before, []byte("\n")) + 1, utf8.RuneCount(before[start:]) + 1
}

type place struct {
	key, at int
	raw     string
}

// indexer notes where each key of a document stands, under the path go-toml
// decodes it to.
type indexer struct {
	places map[string]place
	lists  map[string]int // how many tables each array of tables has so far
	parser unstable.Parser
}

// document walks text, which go-toml has decoded already: it has no mistakes.
func (x *indexer) document(text []byte) {
	x.parser.Reset(text)
	prefix := ""
	for x.parser.NextExpression() {
		node := x.parser.Expression()
		switch node.Kind {
		case unstable.Table:
			prefix = x.header(node, false)
		case unstable.ArrayTable:
			prefix = x.header(node, true)
		default: // a key and its value: there is no other kind at the top
			x.keyValue(prefix, node)
		}
	}
}

// header gives the path of the table that [a.b] or [[a.b]] begins. A name that
// is an array of tables stands for its last element, as in TOML.
func (x *indexer) header(node *unstable.Node, array bool) string {
	path := ""
	for it := node.Key(); it.Next(); {
		path = child(path, string(it.Node().Data))
		offset := int(it.Node().Raw.Offset)
		x.note(path, place{key: offset, at: offset})
		if array && it.IsLast() {
			x.lists[path]++
		}
		if n := x.lists[path]; n > 0 {
			path = element(path, n-1)
			x.note(path, place{key: offset, at: offset})
		}
	}
	return path
}

func (x *indexer) keyValue(prefix string, node *unstable.Node) {
	path := prefix
	for it := node.Key(); it.Next(); {
		path = child(path, string(it.Node().Data))
		offset := int(it.Node().Raw.Offset)
		if it.IsLast() {
			x.nested(path, offset, node.Value())
			return
		}
		x.note(path, place{key: offset, at: offset})
	}
}

// nested notes a value and what is inside it.
func (x *indexer) nested(path string, key int, node *unstable.Node) {
	at := place{key: key, at: elementOffset(node, key)}
	if node.Kind == unstable.String {
		at.raw = string(x.parser.Raw(node.Raw))
	}
	x.note(path, at)
	children := node.Children()
	switch node.Kind {
	case unstable.InlineTable:
		for children.Next() {
			x.keyValue(path, children.Node())
		}
	case unstable.Array:
		for i := 0; children.Next(); {
			if child := children.Node(); child.Kind != unstable.Comment {
				x.nested(element(path, i), elementOffset(child, key), child)
				i++
			}
		}
	default: // a scalar has nothing inside
	}
}

// elementOffset is where an element of a list begins; lists in lists have no
// place of their own in the parser's tree.
func elementOffset(node *unstable.Node, otherwise int) int {
	if node.Raw.Length > 0 {
		return int(node.Raw.Offset)
	}
	return otherwise
}

// note keeps the first place of a path: where a table was opened.
func (x *indexer) note(path string, at place) {
	if _, there := x.places[path]; !there {
		x.places[path] = at
	}
}

// value joins decoded data with its places. What has no place of its own takes
// that of what contains it.
func (x *indexer) value(path string, data any, outer place) *value {
	at, ok := x.places[path]
	if !ok {
		at = outer
	}
	v := &value{data: data, key: at.key, at: at.at, raw: at.raw}
	switch data := data.(type) {
	case map[string]any:
		table := make(map[string]*value, len(data))
		for key, item := range data {
			table[key] = x.value(child(path, key), item, at)
		}
		v.data = table
	case []any:
		list := make([]*value, len(data))
		for i, item := range data {
			list[i] = x.value(element(path, i), item, at)
		}
		v.data = list
	}
	return v
}

// child and element make paths for the index. The separators cannot stand in
// an unquoted key; a quoted one with them could only mix up positions.
func child(path, key string) string { return path + "\x00" + key }

func element(path string, i int) string { return path + "\x01" + strconv.Itoa(i) }
