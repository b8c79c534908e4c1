package doctor

import (
	"strings"
	"testing"
	"unicode/utf8"
)

func TestShorten(t *testing.T) {
	t.Parallel()
	for query, want := range map[string]string{
		"":                                 "",
		"SELECT 1":                         "SELECT ?",
		"insert into \"T\" values ($1,$2)": `insert into "T" values ($1,$2)`,
		"UPDATE t\n\tSET a = 'it''s',\n\tb = 4.5e-3 WHERE c1 = 0x1F": "UPDATE t SET a = ?, b = ?-? WHERE c1 = ?",
		`SELECT E'a\'b', x`:                      "SELECT ?, x",
		`SELECT 'a\'b', x`:                       "SELECT ?",
		"SELECT $$a'b$$, $t$x $$ y$t$, $1":       "SELECT ? , ? , $1",
		"SELECT $t$never ends":                   "SELECT ?",
		"SELECT 'never ends":                     "SELECT ?",
		`SELECT "never ends`:                     "SELECT ?",
		"/* a /* b */ 'c */ SELECT -- 'd\n x":    "SELECT x",
		"SELECT U&'abc', N'd', 'e'":              "SELECT U&?, ?, ?",
		"ALTER ROLE bob PASSWORD 'hunter2'":      "ALTER ROLE bob PASSWORD ?",
		"SET my.secret = hunter2":                "SET my.secret = ?",
		"BEGIN; set my.secret TO hunter2; x":     "BEGIN; set my.secret TO ?",
		"ALTER ROLE bob SET my.secret = hunter2": "ALTER ROLE bob SET my.secret = ?",
		"SELECT a = b, c AS to":                  "SELECT a = b, c AS to",
		"SELECT a\x1b[31m, b\x00":                "SELECT a [?, b",
		"SELECT $":                               "SELECT $",
		"SELECT " + strings.Repeat("é", 200):     "SELECT " + strings.Repeat("é", 92) + "…",
	} {
		if got := shorten(query); got != want {
			t.Errorf("%q:\n got %q\nwant %q", query, got, want)
		}
	}
}

// Whatever surrounds a value, it is not shown, on one line of a bounded length.
func FuzzShorten(f *testing.F) {
	const secret = "hunter2"
	f.Add("SELECT ", ", E'x\\'' FROM t")
	f.Add("SELECT $$a$$, ", " -- x")
	f.Add(`SELECT "a""b", `, "")
	f.Add("SET x = y; SELECT ", "; --")
	f.Fuzz(func(t *testing.T, before, after string) {
		if strings.Contains(before+after, secret) || strings.ContainsAny(before, `'"$/-\`) {
			return // a quote that is open would end in front of the value
		}
		got := shorten(before + " '" + secret + "' " + after)
		if strings.Contains(got, secret) {
			t.Errorf("shown in %q", got)
		}
		if n := utf8.RuneCountInString(got); n > longestQuery || strings.ContainsAny(got, "\n\r\t") || !utf8.ValidString(got) {
			t.Errorf("%d characters: %q", n, got)
		}
	})
}

func TestOldVersionIsAProblem(t *testing.T) {
	t.Parallel()
	for number, want := range map[int]Level{120022: Problem, 130000: OK, 180001: OK} {
		if level, what, do := versionFinding(number, "x.y"); level != want || !strings.Contains(what, "x.y") || (do == "") != (want == OK) {
			t.Errorf("%d: %s %q %q", number, level, what, do)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"a": "'a'", "it's": "'it''s'", `a\b`: `E'a\\b'`} {
		if got := literal(text); got != want {
			t.Errorf("%q: got %s, want %s", text, got, want)
		}
	}
	for word, want := range map[string]string{"public.orders": "public.orders", "a b": "'a b'", "it's": `'it'\''s'`} {
		if got := shellWord(word); got != want {
			t.Errorf("%q: got %s, want %s", word, got, want)
		}
	}
}
