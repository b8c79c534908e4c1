package template

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/fraiseql/observer/internal/celenv"
)

// The places of a placeholder in JSON.
const (
	inValue place = iota
	inString
)

// prepareJSON finds out which placeholders stand inside a string literal, and
// checks the document with a stand-in for each.
func prepareJSON(parts []part) error {
	var skeleton strings.Builder
	var origins []origin
	quoted, escaped := false, false
	for i := range parts {
		p := &parts[i]
		origins = append(origins, origin{offset: skeleton.Len(), part: p})
		if p.program == nil {
			quoted, escaped = scanJSON(p.text, quoted, escaped)
			skeleton.WriteString(p.text)
			continue
		}
		if escaped {
			return errorAt(p.at, `a placeholder cannot follow a backslash`)
		}
		p.place = inValue
		standIn := "null"
		if quoted {
			p.place, standIn = inString, "x"
		}
		skeleton.WriteString(standIn)
	}
	return checkSkeleton(skeleton.String(), origins)
}

// scanJSON carries the state of a JSON lexer over a piece of text: whether it
// is inside a string, and just after a backslash there.
func scanJSON(s string, quoted, escaped bool) (bool, bool) {
	for i := range len(s) {
		switch {
		case escaped:
			escaped = false
		case quoted && s[i] == '\\':
			escaped = true
		case s[i] == '"':
			quoted = !quoted
		}
	}
	return quoted, escaped
}

// origin is the part that a stretch of the skeleton came from.
type origin struct {
	offset int
	part   *part
}

func checkSkeleton(skeleton string, origins []origin) error {
	if strings.TrimSpace(skeleton) == "" {
		return errors.New("the JSON document is empty")
	}
	var v any
	dec := json.NewDecoder(strings.NewReader(skeleton))
	dec.UseNumber()
	err := dec.Decode(&v)
	if err == nil && !json.Valid([]byte(skeleton)) {
		err = errors.New("there is text after the end of the document")
	}
	if err == nil {
		return nil
	}
	offset := len(skeleton)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		offset = int(syntax.Offset) - 1
	}
	at := position{line: 1, column: 1}
	for _, o := range origins {
		if o.offset <= offset {
			at = o.position(skeleton, offset)
		}
	}
	return errorAt(at, "this is not JSON: %w (inside a string quote the placeholder, elsewhere leave it bare)", err)
}

func (o origin) position(skeleton string, offset int) position {
	if o.part.program != nil {
		return o.part.at
	}
	inner := positionAt(o.part.text, max(0, min(offset, len(skeleton))-o.offset))
	if inner.line == 1 {
		return position{line: o.part.at.line, column: o.part.at.column + inner.column - 1}
	}
	return position{line: o.part.at.line + inner.line - 1, column: inner.column}
}

func writeJSON(b []byte, p *part, v value) ([]byte, error) {
	if p.place == inValue {
		return appendValue(b, v)
	}
	s, err := text(v)
	if err != nil {
		return b, err
	}
	return appendEscaped(b, s), nil
}

func finishJSON(rendered []byte, _ []span) error {
	if !json.Valid(rendered) {
		return errors.New("the result is not JSON")
	}
	return nil
}

// appendValue encodes any CEL value as JSON. The data of the event goes out as
// it was recorded, keys in their order and digits untouched.
func appendValue(b []byte, v value) ([]byte, error) {
	switch x := v.Val.(type) {
	case types.Null:
		return append(b, "null"...), nil
	case types.Bool:
		return strconv.AppendBool(b, bool(x)), nil
	case types.String:
		return appendQuoted(b, string(x)), nil
	case celenv.Number:
		return append(b, x.String()...), nil
	case types.Int:
		return strconv.AppendInt(b, int64(x), 10), nil
	case types.Uint:
		return strconv.AppendUint(b, uint64(x), 10), nil
	case types.Double:
		return appendDouble(b, float64(x))
	case types.Bytes:
		return appendQuoted(b, base64.StdEncoding.EncodeToString(x)), nil
	case types.Timestamp:
		return appendQuoted(b, timestamp(x)), nil
	case types.Duration:
		return appendQuoted(b, duration(x)), nil
	case *celenv.Event:
		return appendEvent(b, x)
	case traits.Mapper:
		return appendMap(b, v, x)
	case traits.Lister:
		return appendList(b, v, x)
	}
	return b, fmt.Errorf("%s cannot be written as JSON", celenv.KindOf(v.Val))
}

func appendDouble(b []byte, f float64) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, fmt.Errorf("JSON has no %v", f)
	}
	format := byte('f')
	if a := math.Abs(f); a != 0 && (a < 1e-6 || a >= 1e21) {
		format = 'e'
	}
	return strconv.AppendFloat(b, f, format, -1, 64), nil
}

func appendEvent(b []byte, e *celenv.Event) ([]byte, error) {
	b = append(b, '{')
	first := true
	err := e.Each(func(name string, v ref.Val) error {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(appendQuoted(b, name), ':')
		var err error
		b, err = appendValue(b, value{Val: v, event: e.Event})
		return err
	})
	return append(b, '}'), err
}

func appendMap(b []byte, v value, m traits.Mapper) ([]byte, error) {
	if native, ok := m.Value().(map[string]any); ok {
		if raw, ok := v.recorded(native); ok {
			return raw(b)
		}
		return appendNative(b, native)
	}
	entries := make(map[string]ref.Val)
	for it := m.Iterator(); it.HasNext() == types.True; {
		key := it.Next()
		name, err := keyText(key)
		if err != nil {
			return b, err
		}
		entries[name], _ = m.Find(key)
	}
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(entries)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, name), ':')
		var err error
		if b, err = appendValue(b, value{Val: entries[name], event: v.event}); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func keyText(key ref.Val) (string, error) {
	switch key.(type) {
	case types.String, types.Int, types.Uint, types.Bool, celenv.Number:
		return text(value{Val: key})
	}
	return "", fmt.Errorf("%s cannot be a key of a JSON object", celenv.KindOf(key))
}

func appendList(b []byte, v value, l traits.Lister) ([]byte, error) {
	if native, ok := l.Value().([]any); ok {
		return appendNative(b, native)
	}
	b = append(b, '[')
	for it := l.Iterator(); it.HasNext() == types.True; {
		if b[len(b)-1] != '[' {
			b = append(b, ',')
		}
		var err error
		if b, err = appendValue(b, value{Val: it.Next(), event: v.event}); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

// recorded says how to write m when it is the data of the event itself.
func (v value) recorded(m map[string]any) (func([]byte) ([]byte, error), bool) {
	if v.event == nil || len(m) == 0 {
		return nil, false
	}
	fields, err := v.event.Fields()
	if err != nil || reflect.ValueOf(fields).Pointer() != reflect.ValueOf(m).Pointer() {
		return nil, false
	}
	return func(b []byte) ([]byte, error) {
		raw := []byte(v.event.Data)
		if !utf8.Valid(raw) {
			raw = bytes.ToValidUTF8(raw, []byte("\ufffd"))
		}
		out := bytes.NewBuffer(b)
		err := json.Compact(out, raw)
		return out.Bytes(), err
	}, true
}

// appendNative encodes what encoding/json decoded.
func appendNative(b []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...), nil
	case bool:
		return strconv.AppendBool(b, v), nil
	case string:
		return appendQuoted(b, v), nil
	case json.Number:
		return append(b, v.String()...), nil
	case []any:
		return appendNativeList(b, v)
	case map[string]any:
		return appendNativeMap(b, v)
	case ref.Val:
		return appendValue(b, value{Val: v})
	}
	return b, fmt.Errorf("%T cannot be written as JSON", v)
}

func appendNativeList(b []byte, list []any) ([]byte, error) {
	b = append(b, '[')
	for i, elem := range list {
		if i > 0 {
			b = append(b, ',')
		}
		var err error
		if b, err = appendNative(b, elem); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendNativeMap(b []byte, m map[string]any) ([]byte, error) {
	b = append(b, '{')
	for i, name := range slices.Sorted(maps.Keys(m)) {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, name), ':')
		var err error
		if b, err = appendNative(b, m[name]); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendQuoted(b []byte, s string) []byte {
	return append(appendEscaped(append(b, '"'), s), '"')
}

// appendEscaped writes s as the inside of a JSON string. Only what JSON demands
// is escaped; bytes that are not UTF-8 become the replacement character.
func appendEscaped(b []byte, s string) []byte {
	const hex = "0123456789abcdef"
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == '\n':
			b = append(b, '\\', 'n')
		case r == '\r':
			b = append(b, '\\', 'r')
		case r == '\t':
			b = append(b, '\\', 't')
		case r < ' ':
			b = append(b, '\\', 'u', '0', '0', hex[r>>4], hex[r&0xf])
		default:
			b = utf8.AppendRune(b, r)
		}
	}
	return b
}
