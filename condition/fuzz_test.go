package condition_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
)

// FuzzCondition feeds any expression and any data: nothing panics, an error is
// one line, and an evaluation has the same outcome twice.
func FuzzCondition(f *testing.F) {
	for _, src := range []string{
		`data.total == 100`, `field_changed_to('status', "x")`, `data.items.exists(i, i.qty % 2 > 0.5)`, `has(data.a.b)`,
		`data['a'] in [1, 2u, 3.0, 'x']`, `-data.a < 1e400`, `data.a.matches(data.b)`, `event.seq == null ? true : false`,
		`data.a / data.b == round(data.a, 3)`, `[data.a].map(x, {x: x})`, `dyn(event).data`, `data.a[data.b] == data`,
		`data.a.replace('', 'x').split('')[0] == fixed(data.b, 9)`, "`", `r'\'`, `"""`, `@event`, `{`, `a.b(`, `number(data.a)`,
	} {
		f.Add(src, `{"a": 1e999999999, "b": [1.0, {"c": null}], "status": "x"}`)
		f.Add(src, `{"a": "((", "b": -0.00, "total": 1E+2}`)
	}
	compiler, err := condition.NewCompiler()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src, data string) {
		c, err := compiler.Compile(src)
		if err != nil {
			checkLine(t, err)
			return
		}
		e := func() *observer.Event {
			return &observer.Event{ID: "1", Operation: observer.Update, Data: json.RawMessage(data), Before: json.RawMessage(data)}
		}
		got, err := c.Match(t.Context(), e())
		again, errAgain := c.Match(t.Context(), e())
		if got != again || (err == nil) != (errAgain == nil) {
			t.Errorf("%q on %s: %v, %v and then %v, %v", src, data, got, err, again, errAgain)
		}
		if err != nil && strings.Contains(err.Error(), "internal error") {
			t.Errorf("%q on %s: %v", src, data, err)
		}
	})
}

func checkLine(t *testing.T, err error) {
	t.Helper()
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("error of several lines: %q", err)
	}
}
