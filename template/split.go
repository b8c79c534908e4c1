package template

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fraiseql/observer/internal/celenv"
)

// position is a place in a template, counted from 1 in lines and characters.
type position struct{ line, column int }

func (p position) String() string {
	if p.line > 1 {
		return fmt.Sprintf("line %d, column %d", p.line, p.column)
	}
	return fmt.Sprintf("column %d", p.column)
}

func positionAt(src string, offset int) position {
	before := src[:min(offset, len(src))]
	line := strings.Count(before, "\n") + 1
	return position{line: line, column: utf8.RuneCountInString(before[strings.LastIndexByte(before, '\n')+1:]) + 1}
}

// loadError is a mistake in a template and where it stands.
type loadError struct {
	at  position
	err error
}

func (e *loadError) Error() string { return e.at.String() + ": " + e.err.Error() }
func (e *loadError) Unwrap() error { return e.err }

func errorAt(at position, format string, args ...any) error {
	return &loadError{at: at, err: fmt.Errorf(format, args...)}
}

// part is a piece of a template: literal text, or a placeholder with its
// program. For a placeholder text is the expression.
type part struct {
	text    string
	at      position
	program *celenv.Program
	// place is where the placeholder stands, in the terms of the format.
	place place
}

type place int

const (
	opening = "{{"
	closing = "}}"
)

// split cuts src into parts and compiles the expressions.
func split(src string, env *celenv.Env) ([]part, error) {
	var parts []part
	for offset := 0; offset < len(src); {
		start := strings.Index(src[offset:], opening)
		if start < 0 {
			return append(parts, part{text: src[offset:], at: positionAt(src, offset)}), nil
		}
		start += offset
		if start > offset {
			parts = append(parts, part{text: src[offset:start], at: positionAt(src, offset)})
		}
		body := start + len(opening)
		end, found := endOfExpression(src[body:])
		if !found {
			return nil, errorAt(positionAt(src, start), "{{ is not closed by }} (a literal {{ is written {{ '{{' }})")
		}
		p, err := compilePart(src, body, body+end, env)
		if err != nil {
			return nil, err
		}
		parts = append(parts, p)
		offset = body + end + len(closing)
	}
	return parts, nil
}

func compilePart(src string, from, to int, env *celenv.Env) (part, error) {
	expr := src[from:to]
	trimmed := strings.TrimSpace(expr)
	at := positionAt(src, from+strings.Index(expr, trimmed))
	if trimmed == "" {
		return part{}, errorAt(at, "{{ }} is empty")
	}
	program, err := env.Compile(trimmed)
	if err != nil {
		return part{}, shift(at, err)
	}
	return part{text: trimmed, at: at, program: program}, nil
}

// shift moves the position of a compile error from the expression to the
// template around it.
func shift(at position, err error) error {
	var mistake *celenv.CompileError
	if !errors.As(err, &mistake) {
		return &loadError{at: at, err: err}
	}
	if mistake.Line == 1 {
		at.column += mistake.Column - 1
	} else {
		at = position{line: at.line + mistake.Line - 1, column: mistake.Column}
	}
	return errorAt(at, "%s", mistake.Message)
}

// endOfExpression finds the }} that ends a placeholder: not the one inside a
// string literal, a comment or a nested map.
func endOfExpression(s string) (int, bool) {
	depth := 0
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\'' || c == '"':
			n := stringLiteral(s[i:], isRaw(s[:i]))
			if n < 0 {
				return 0, false
			}
			i += n
			continue
		case strings.HasPrefix(s[i:], "//"):
			line := strings.IndexByte(s[i:], '\n')
			if line < 0 {
				return 0, false
			}
			i += line
		case c == '{':
			depth++
		case c == '}' && depth > 0:
			depth--
		case strings.HasPrefix(s[i:], closing):
			return i, true
		}
		i++
	}
	return 0, false
}

// isRaw reports whether the quote after before begins a raw string: r"..."
// with no name that merely ends in r.
func isRaw(before string) bool {
	prefix := before[len(strings.TrimRight(before, "rRbB")):]
	rest := before[:len(before)-len(prefix)]
	if rest != "" && isNameByte(rest[len(rest)-1]) {
		return false
	}
	return strings.ContainsAny(prefix, "rR")
}

func isNameByte(c byte) bool {
	return c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// stringLiteral is the length of the CEL string literal s begins with, or -1.
func stringLiteral(s string, raw bool) int {
	quote := s[:1]
	if strings.HasPrefix(s, strings.Repeat(quote, 3)) {
		quote = s[:3]
	}
	for i := len(quote); i < len(s); i++ {
		if s[i] == '\\' && !raw {
			i++
			continue
		}
		if strings.HasPrefix(s[i:], quote) {
			return i + len(quote)
		}
	}
	return -1
}
