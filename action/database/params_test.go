package database

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
)

// FuzzCall: what is accepted is one JSON document, and the statement has one
// placeholder for each of its values and nothing of them.
func FuzzCall(f *testing.F) {
	for _, seed := range []string{
		``, `[]`, `{}`, `[1, "a", null, {"b": [2]}]`, `{"p": 1, "q": "x"}`, `{"p": 1, "p": 2}`, `[1`, `[1}`, `[1] x`, `{"a\" => 1); --": 1}`,
		`{"": 1}`, `{"\u0000": 1}`, `1`, `null`, `[1e999]`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, params string) {
		c, err := newCall("f", params)
		if err != nil {
			return
		}
		if !json.Valid([]byte(params)) {
			t.Fatalf("%q is no JSON, and becomes %s", params, c.statement)
		}
		rest, ok := strings.CutPrefix(c.statement, "SELECT f(")
		for i := range c.values {
			name, after, found := strings.Cut(rest, "$"+strconv.Itoa(i+1))
			for !found || !isArgument(name) { // the name of the argument has the placeholder in it
				more, then, again := strings.Cut(after, "$"+strconv.Itoa(i+1))
				if !again {
					t.Fatalf("%q becomes %s with %d values", params, c.statement, len(c.values))
				}
				name, after = name+"$"+strconv.Itoa(i+1)+more, then
			}
			rest = after
		}
		if !ok || rest != ")::text" {
			t.Errorf("%q becomes %s with %d values", params, c.statement, len(c.values))
		}
	})
}

// isArgument reports whether text is what stands before a placeholder: nothing,
// or a quoted name.
func isArgument(text string) bool {
	text = strings.TrimPrefix(text, ", ")
	if text == "" {
		return true
	}
	name, ok := strings.CutSuffix(text, `" => `)
	name, quoted := strings.CutPrefix(name, `"`)
	return ok && quoted && !strings.Contains(strings.ReplaceAll(name, `""`, ""), `"`)
}
