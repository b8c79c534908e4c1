package cache

import (
	"strings"
	"testing"
)

// literal is the one text that a pattern of Redis matches; ok is false when it may
// match another.
func literal(pattern string) (text string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(pattern); i++ {
		switch pattern[i] {
		case '*', '?', '[', ']':
			return "", false
		case '\\':
			if i++; i == len(pattern) {
				return "", false
			}
		}
		b.WriteByte(pattern[i])
	}
	return b.String(), true
}

// FuzzEscapeGlob: a value in a pattern matches itself and nothing else.
func FuzzEscapeGlob(f *testing.F) {
	for _, seed := range []string{"", "a", "*", "a?b", "[a-z]", `\`, `\*`, "a]b^", "é", "\xff"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		pattern, err := escapeGlob(value)
		if (err != nil) != (value == "") {
			t.Fatalf("%q: %v", value, err)
		}
		if text, ok := literal(pattern); err == nil && (!ok || text != value) {
			t.Errorf("%q became the pattern %q, which matches %q, %t", value, pattern, text, ok)
		}
	})
}
