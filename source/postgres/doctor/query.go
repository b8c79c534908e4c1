package doctor

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// longestQuery is how much of a statement is shown.
const longestQuery = 100

// shorten writes a statement on one line without its literals and comments, for
// they may hold what nobody else should see. What cannot be told apart for
// certain is left out with everything after it.
func shorten(query string) string {
	s := scanner{rest: strings.ToValidUTF8(query, "?")}
	for s.rest != "" {
		s.step()
	}
	text := strings.Join(strings.Fields(s.out.String()), " ")
	if utf8.RuneCountInString(text) > longestQuery {
		text = string([]rune(text)[:longestQuery-1]) + "…"
	}
	return text
}

// hidden stands where a literal stood.
const hidden = "?"

// scanner copies a statement without its literals.
type scanner struct {
	rest string
	out  strings.Builder
	// first is the first word of the statement, and sets says that it gives a
	// value to a setting, which need not be a literal.
	first string
	sets  bool
}

// step takes one token.
func (s *scanner) step() {
	r, _ := utf8.DecodeRuneInString(s.rest)
	switch {
	case strings.HasPrefix(s.rest, "--"):
		s.skip(after(s.rest, 0, "\n"))
	case strings.HasPrefix(s.rest, "/*"):
		s.skip(comment(s.rest))
	case r == '\'':
		s.text(false)
	case r == '"':
		s.identifier()
	case r == '$':
		s.dollar()
	case isNumber(s.rest):
		s.rest = strings.TrimLeftFunc(s.rest, func(r rune) bool { return r == '.' || isWord(r) })
		s.out.WriteString(hidden)
	case isWord(r):
		s.word()
	default:
		s.sign(r)
	}
}

// sign copies a character that stands for itself.
func (s *scanner) sign(r rune) {
	switch {
	case r == '=' && s.sets:
		s.value("=")
		return
	case r == ';':
		s.first, s.sets = "", false
	case !unicode.IsPrint(r):
		s.skip(utf8.RuneLen(r))
		return
	}
	s.out.WriteRune(r)
	s.rest = s.rest[utf8.RuneLen(r):]
}

// skip leaves out the first n bytes; all of them when n is negative.
func (s *scanner) skip(n int) {
	s.out.WriteByte(' ')
	if n < 0 {
		n = len(s.rest)
	}
	s.rest = s.rest[n:]
}

// word copies a name or a keyword. One that stands right before a quote says how
// to read the literal.
func (s *scanner) word() {
	n := strings.IndexFunc(s.rest, func(r rune) bool { return !isWord(r) && r != '$' })
	if n < 0 {
		n = len(s.rest)
	}
	word := s.rest[:n]
	s.rest = s.rest[n:]
	if strings.HasPrefix(s.rest, "'") && n == 1 {
		s.text(strings.EqualFold(word, "e"))
		return
	}
	s.out.WriteString(word)
	word = strings.ToUpper(word)
	switch {
	case s.first == "":
		s.first, s.sets = word, word == "SET"
	case s.first == "ALTER" && word == "SET":
		s.sets = true
	case word == "TO" && s.sets:
		s.value("")
	}
}

// value leaves out the value of a setting, and whatever follows it.
func (s *scanner) value(sign string) {
	s.out.WriteString(sign + " " + hidden)
	s.rest = ""
}

// text leaves out a literal in quotes. Whether a backslash hides a quote depends
// on a setting of that session, unless the literal is of the kind E'...'.
func (s *scanner) text(escapes bool) {
	s.out.WriteString(hidden)
	for i := 1; i < len(s.rest); i++ {
		switch c := s.rest[i]; {
		case c == '\\' && escapes:
			i++
		case c == '\\' && i+1 < len(s.rest) && (s.rest[i+1] == '\'' || s.rest[i+1] == '\\'):
			s.rest = ""
			return
		case c == '\'' && i+1 < len(s.rest) && s.rest[i+1] == '\'':
			i++
		case c == '\'':
			s.rest = s.rest[i+1:]
			return
		}
	}
	s.rest = ""
}

// identifier copies a name in quotes; one without an end is left out.
func (s *scanner) identifier() {
	n := after(s.rest, 1, `"`)
	if n < 0 {
		s.out.WriteString(hidden)
		s.rest = ""
		return
	}
	s.out.WriteString(s.rest[:n])
	s.rest = s.rest[n:]
}

// dollar copies a parameter ($1) and leaves out a literal in dollar quotes.
func (s *scanner) dollar() {
	n := 1 + strings.IndexFunc(s.rest[1:], func(r rune) bool { return !isWord(r) })
	if n == 0 || s.rest[n] != '$' || n > 1 && s.rest[1] >= '0' && s.rest[1] <= '9' {
		if n == 0 {
			n = len(s.rest)
		}
		s.out.WriteString(s.rest[:n])
		s.rest = s.rest[n:]
		return
	}
	s.out.WriteString(hidden)
	s.skip(after(s.rest, n+1, s.rest[:n+1]))
}

// after is where the text after the first end at or after from begins; -1 when
// there is none.
func after(text string, from int, end string) int {
	if i := strings.Index(text[from:], end); i >= 0 {
		return from + i + len(end)
	}
	return -1
}

// comment is where the text after a comment begins, which may hold others.
func comment(text string) int {
	depth := 0
	for i := 0; i+1 < len(text); i++ {
		switch text[i : i+2] {
		case "/*":
			depth++
			i++
		case "*/":
			depth--
			i++
			if depth == 0 {
				return i + 1
			}
		}
	}
	return -1
}

// isNumber reports whether a text begins with a number.
func isNumber(text string) bool {
	text = strings.TrimPrefix(text, ".")
	return text != "" && text[0] >= '0' && text[0] <= '9'
}

func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || r >= '0' && r <= '9' || r > unicode.MaxASCII
}
