package config_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
)

// TestPositions finds the mistake @ marks in every way TOML has to write a key.
func TestPositions(t *testing.T) {
	t.Parallel()
	const db = "[[databases]]\nname = \"a\"\nurl = \"sqlite:a.db\"\n"
	for name, text := range map[string]string{
		"section":                  db + "[@zzzz]\n",
		"key":                      db + "[state]\n  @zzzz = 1\n",
		"quoted key":               db + "[state]\n@\"zz zz\" = 1\n",
		"dotted key of a section":  "state.@zzzz = 1\n" + db,
		"dotted header":            db + "[[observers]]\nname=\"o\"\nentity=\"E\"\nactions=[{type=\"log\"}]\n[observers.@zzzz]\nx=1\n",
		"header with spaces":       db + "[[observers]]\nname=\"o\"\nentity=\"E\"\nactions=[{type=\"log\"}]\n[ observers . retry ]\n@zzzz=1\n",
		"second element":           db + "[[databases]]\nname = \"b\"\nurl = \"sqlite:b.db\"\n@zzzz = 1\n",
		"table of second element":  db + "[[observers]]\nname=\"o\"\nentity=\"E\"\nactions=[{type=\"log\"}]\n[[observers]]\nname=\"p\"\nentity=\"E\"\nactions=[{type=\"log\"}]\n[observers.retry]\n@zzzz=1\n",
		"inline table":             "state = { url = \"sqlite:s.db\", @zzzz = 1 }\n" + db,
		"inline table in a list":   "databases = [\n  # a comment\n  {name = \"a\", url = \"sqlite:a.db\"},\n  {name = \"b\", url = \"sqlite:b.db\", @zzzz = 1},\n]\n",
		"dotted in an inline one":  "observers = [{ name = \"o\", entity = \"E\", actions = [{ type = \"log\" }], retry.@zzzz = 1 }]\n" + db,
		"value":                    db + "[log]\nformat =   @\"xml\"\n",
		"element of a list":        db + "[network]\nallow = [\"::1\", # first\n\t@\"zzzz\"]\n",
		"windows":                  strings.ReplaceAll(db, "\n", "\r\n") + "[log]\r\nformat = @\"xml\"\r\n",
		"byte order mark":          "\ufeff@zzzz = 1\n" + db,
		"literal condition":        db + observing(`condition = 'data.a == 1 && @dta.b'`),
		"umlauts before it":        db + observing(`condition = "data.a == 'ü' && @dta.b" # ö`),
		"condition in three lines": db + observing("condition = \"\"\"\ndata.a &&\n  @dta.b\n\"\"\""),
		"condition with an escape": db + observing(`condition = @"data.a == \"x\" && dta.b"`),
		"template":                 db + observing("") + "@body_template = 'x'\n" + "[[observers.actions]]\ntype = \"log\"\nmessage_template = 'é {{ @dta.x }}'\n",
	} {
		var marks []string // what is before each of them
		parts := strings.Split(text, "@")
		for i := range parts[1:] {
			marks = append(marks, strings.Join(parts[:i+1], ""))
		}
		_, err := config.Parse("f", []byte(strings.ReplaceAll(text, "@", "")), nil)
		var errs config.Errors
		if !errors.As(err, &errs) {
			t.Errorf("%s: not refused", name)
			continue
		}
		for _, before := range marks {
			before = strings.TrimPrefix(before, "\ufeff")
			line := strings.Count(before, "\n") + 1
			column := len([]rune(before[strings.LastIndexByte(before, '\n')+1:])) + 1
			if !at(errs, line, column) {
				t.Errorf("%s: nothing at %d:%d in\n%v", name, line, column, err)
			}
		}
	}
}

func observing(line string) string {
	return "[[observers]]\nname = \"o\"\nentity = \"E\"\n" + line + "\n[[observers.actions]]\ntype = \"log\"\n"
}

func at(errs config.Errors, line, column int) bool {
	for _, e := range errs {
		if e.Line == line && e.Column == column {
			return true
		}
	}
	return false
}

func TestExpand(t *testing.T) {
	t.Parallel()
	vars := environ(map[string]string{"A": "1", "B_2": "${A}", "EMPTY": ""})
	for text, want := range map[string]string{
		"":                  "",
		"no variable $ {A}": "no variable $ {A}",
		"${A}":              "1",
		"x${A}y${A}z":       "x1y1z",
		"${B_2}":            "${A}",
		"${EMPTY}":          "",
		"$${A}":             "${A}",
		"$${":               "${",
		"$$${A}":            "$${A}",
		"${{ data.a }}":     "${{ data.a }}",
		"$${{ data.a }}":    "${{ data.a }}",
		"$A $(A) $$":        "$A $(A) $$",
		"größe ${A} größe":  "größe 1 größe",
	} {
		got, _, err := config.Expand(text, vars)
		if err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"${MISSING}": "environment variable MISSING is not set",
		"${":         "without a variable",
		"${}":        "without a variable",
		"${A-b}":     "without a variable",
		"${1A}":      "without a variable",
		"${A":        "without a variable",
	} {
		if _, _, err := config.Expand(text, vars); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	_, secrets, _ := config.Expand("${A} ${B_2} $${A}", vars)
	equal(t, "secrets", []string{secrets[0].Reveal(), secrets[1].Reveal()}, []string{"1", "${A}"})
	if len(secrets) != 2 {
		t.Errorf("%d secrets", len(secrets))
	}
}

func TestEditDistance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"a", "", 1}, {"", "abc", 3}, {"level", "level", 0}, {"lveel", "level", 1},
		{"lvel", "level", 1}, {"leevel", "level", 1}, {"lefel", "level", 1}, {"abc", "xyz", 3}, {"ca", "abc", 3},
		{strings.Repeat("a", 1000), "a", 1000},
	} {
		if got := config.EditDistance(c.a, c.b); got != c.want {
			t.Errorf("%.20q to %q: %d, want %d", c.a, c.b, got, c.want)
		}
		if there, back := config.EditDistance(c.a, c.b), config.EditDistance(c.b, c.a); there != back {
			t.Errorf("%.20q and %q: %d there, %d back", c.a, c.b, there, back)
		}
	}
}

func TestErrorText(t *testing.T) {
	t.Parallel()
	errs := config.Errors{
		{File: "f", Line: 3, Column: 4, Key: "a.b", Message: "is wrong"},
		{File: "f", Key: "a", Message: "is missing"},
		{File: "f", Line: 1, Column: 1, Message: "not valid"},
	}
	if diff := cmp.Diff("f:3:4: a.b: is wrong\nf: a: is missing\nf:1:1: not valid", errs.Error()); diff != "" {
		t.Error(diff)
	}
}

// TestSchemesNeverEcho: what a URL holds is not repeated, wherever it is wrong.
func TestSchemesNeverEcho(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"hunter2", "hunter2:x", "postgres:hunter2@h", "postgres://u:hunter2@h:x", "postgres://u:hunter2%@h", "postgres://u@h?hunter2=%", "mysql://u:hunter2@h", "sqlite://hunter2", "sqlite:hunter2/", "sqlite:hunter2?x"} {
		_, err := config.NewDatabase("a", observer.NewSecret(url))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// Of several overrides that fit the narrowest holds, wherever it stands.
func TestRulesOfAnEndpoint(t *testing.T) {
	t.Parallel()
	c := parse(t, `[limits]
rate = 1
[[endpoints.overrides]]
endpoint = "webhook https://a.example/*"
limits = { rate = 2 }
[[endpoints.overrides]]
endpoint = "webhook https://a.example/orders/*"
limits = { rate = 3 }
breaker = { enabled = false }
[[endpoints.overrides]]
endpoint = "webhook https://a.example/o*"
limits = { rate = 4 }
[[endpoints.overrides]]
endpoint = "webhook *"
limits = { rate = 5 }
[[endpoints.overrides]]
endpoint = "webhook https://b"
limits = { rate = 6 }
`+minimal+`type = "log"`, nil)
	for name, rate := range map[string]float64{
		"slack hooks.slack.com":             1,
		"webhook https://a.example/":        2,
		"webhook https://a.example/orders/": 3,
		"webhook https://a.example/other":   4,
		"webhook https://c.example":         5,
		"webhook https://b":                 6,
		"webhook https://b/":                5,
	} {
		breaker, limits := c.Rules(name)
		if limits.Rate != rate || breaker.Enabled != (rate != 3) || breaker.Probes != 3 {
			t.Errorf("%s: rate %v, breaker %+v; want rate %v", name, limits.Rate, breaker, rate)
		}
	}
}
