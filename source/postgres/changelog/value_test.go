package changelog_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

func TestAnyValueHasAForm(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	for value, want := range map[string]string{
		"1":                         `1`,
		"NULL::text":                `null`,
		`'{"a": "\u0000"}'::json`:   `"{\"a\": \"\\u0000\"}"`,
		"'NaN'::numeric":            `"NaN"`,
		"repeat('x', 268435456)":    `{"omitted_bytes": 268435456}`,
		`ARRAY['"\u0000"'::json]`:   `"{\"\\\"\\\\u0000\\\"\"}"`,
		"'{1,2}'::int[]":            `[1, 2]`,
		"ROW(1, 'x')":               `{"f1": 1, "f2": "x"}`,
		"'infinity'::timestamptz":   `"infinity"`,
		"'2026-01-02'::date":        `"2026-01-02"`,
		"convert_to('é', 'UTF8')":   `"\\xc3a9"`,
		"B'10'":                     `"10"`,
		"'10.0.0.1'::inet":          `"10.0.0.1"`,
		"'[1,2)'::int4range":        `"[1,2)"`,
		"'<a/>'::xml":               `"<a/>"`,
		"'-Infinity'::float8":       `"-Infinity"`,
		"12345678901234567890.1200": `12345678901234567890.1200`,
	} {
		if got := testenv.Value[string](t, conn, "SELECT coalesce(fraiseql_observer.capture_value("+value+")::text, 'null')"); got != want {
			t.Errorf("%s: %s, want %s", value, got, want)
		}
	}
}
