package template_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

const row = `{"id": "42", "total": 100.00, "big": 12345678901234567890, "name": "Ada <b>\"&\"</b>", "none": null,
 "flag": true, "tags": ["x", 1.50], "customer": {"z": 1, "a": "é<"}, "empty": "", "hostile": "{{ data.id }}",
 "lines": "a\r\nX-Evil: 1", "nul": "a\u0000b", "path": "../admin?x=1#y%2f", "dots": "..", "dot": ".", "host": "shop-1",
 "badhost": "evil.com/", "url": "https://hooks.example.com/in?k=v", "base": "https://hooks.example.com/in",
 "js": "javascript:alert(1)", "creds": "https://u:p@example.com/", "email": "ada@example.com",
 "two": "a@example.com, b@example.com", "tag": "<!channel>", "pair": "a@example.com,b@example.com", "emoji": "😀", "quote": "\"\\\n\t\u2028",
 "huge": 1e999999999, "space": "a b&c=d+é", "list": [], "at": "2026-01-02T03:04:05Z"}`

func event() *observer.Event {
	return &observer.Event{
		ID: "0192", Operation: observer.Update, EntityType: "Order", EntityID: "7", Data: json.RawMessage(row),
		Before:    json.RawMessage(`{"total": 90.10}`),
		Timestamp: time.Date(2026, 11, 23, 9, 0, 0, 123_000_000, time.FixedZone("", 3600)),
	}
}

func render(t *testing.T, src string, kind template.Kind) (string, error) {
	t.Helper()
	tmpl, err := template.Compile(src, kind)
	if err != nil {
		t.Fatalf("compile %v %s: %v", kind, src, err)
	}
	return tmpl.Render(t.Context(), event())
}

func checkRenders(t *testing.T, kind template.Kind, want map[string]string) {
	t.Helper()
	for src, text := range want {
		got, err := render(t, src, kind)
		if err != nil || got != text {
			t.Errorf("%v %s = %s, %v; want %s", kind, src, got, err, text)
		}
	}
}

func checkRefuses(t *testing.T, kind template.Kind, want map[string]string) {
	t.Helper()
	for src, text := range want {
		got, err := render(t, src, kind)
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v %s = %q, %v; want an error that says %q", kind, src, got, err, text)
			continue
		}
		if observer.ReasonOf(err) != observer.ReasonTemplate || observer.Retryable(err) || got != "" {
			t.Errorf("%v %s: reason %v, retryable %v, text %q", kind, src, observer.ReasonOf(err), observer.Retryable(err), got)
		}
	}
}

func checkLoadErrors(t *testing.T, kind template.Kind, want map[string]string) {
	t.Helper()
	for src, text := range want {
		tmpl, err := template.Compile(src, kind)
		if err == nil {
			t.Errorf("%v %q compiled: %v", kind, src, tmpl)
			continue
		}
		if !strings.Contains(err.Error(), text) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v %q: %q does not say %q in one line", kind, src, err, text)
		}
	}
}

func TestTextHasValuesAsTheyAre(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Text, map[string]string{
		``:                                     ``,
		`no placeholder }} here`:               `no placeholder }} here`,
		`Order {{ data.id }}: {{data.total}}.`: `Order 42: 100.00.`,
		`{{ data.big }} {{ data.huge }}`:       `12345678901234567890 1e999999999`,
		`{{ data.name }}`:                      `Ada <b>"&"</b>`,
		`[{{ data.none }}{{ data.empty }}{{ event.user_id }}]`:                     `[]`,
		`{{ data.flag }} {{ 1 + 1 }} {{ 1.5 }} {{ 2u }}`:                           `true 2 1.5 2`,
		`{{ data.tags }} {{ data.customer }} {{ [] }} {{ {} }}`:                    `["x",1.50] {"a":"é<","z":1} [] {}`,
		`{{ event.timestamp }}`:                                                    `2026-11-23T08:00:00.123Z`,
		`{{ duration('90s') }} {{ b'hi' }}`:                                        `90s aGk=`,
		`{{ data.total * 2 }} {{ data.total / 3 }} {{ fixed(data.total * 2, 2) }}`: `200 33.33333333333333333333333333333333 200.00`,
		`{{ data.emoji }}{{ data.lines }}`:                                         "😀a\r\nX-Evil: 1",
		"{{ data.id // the number\n }}!":                                           `42!`,
		`{{ has(data.missing) ? data.missing : 'none' }}`:                          `none`,
		`{{ changes.total.old }} -> {{ changes.total.new }}`:                       `90.10 -> 100.00`,
		`{{ "" }}{{ field_changed('id') }}`:                                        `true`,
	})
	checkRefuses(t, template.Text, map[string]string{
		`x {{ data.missing }}`:     `{{ data.missing }} at column 6: data.missing is not there`,
		"a\nb {{ data.none + 1 }}": `at line 2, column 6: data.none is null`,
		`{{ double('NaN') }}`:      `NaN cannot be written`,
		`{{ type(1) }}`:            `cannot be written`,
	})
}

func TestPlaceholderEndsWhereTheExpressionEnds(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Text, map[string]string{
		`{{ '{{' }} and {{ '}}' }}`:         `{{ and }}`,
		`{{ "a}}b" + 'c}}d' }}`:             `a}}bc}}d`,
		`{{ {'a': {'b': 1}}}}`:              `{"a":{"b":1}}`,
		`{{ {'a': {'b': '}}'}}['a'].b }}}}`: `}}}}`,
		`{{ r'\' + "}}" }}`:                 `\}}`,
		`{{ '\'}}' }}`:                      `'}}`,
		`{{ '''it's }}''' }}`:               `it's }}`,
		`{{ """a"}}""" }}`:                  `a"}}`,
		`{{data.id}}{{data.id}}`:            `4242`,
		`{ {{ data.id }} }`:                 `{ 42 }`,
		"{{ data.id // }}\n }}":             `42`,
	})
	checkLoadErrors(t, template.Text, map[string]string{
		`abc {{ data.id`:      `column 5: {{ is not closed by }}`,
		"abc\n  {{ data.id }": `line 2, column 3: {{ is not closed by }}`,
		`{{ 'a }}`:            `column 1: {{ is not closed by }}`,
		`{{ {'a': 1 }}`:       `column 1: {{ is not closed by }}`,
		`{{ }}`:               `{{ }} is empty`,
		`{{}}`:                `{{ }} is empty`,
		`é {{ dat.id }}`:      `column 6: unknown name "dat": did you mean "data"?`,
		"{{ data.id }}\n {{\n  data.id ==\n  dta }}": `line 4, column 3: unknown name "dta"`,
		`{{ event.entty_id }}`:                       `event has no field "entty_id"`,
		`{{ data.id }} {{ data.id data.id }}`:        `column 26: syntax error`,
		`{{ {{ data.id }} }}`:                        `syntax error`,
	})
}

func TestValuesAreNeverEvaluated(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Text, map[string]string{`{{ data.hostile }}`: `{{ data.id }}`})
	checkRenders(t, template.JSON, map[string]string{
		`{{ data.hostile }}`: `"{{ data.id }}"`, `"{{ data.hostile }}"`: `"{{ data.id }}"`,
	})
	checkRenders(t, template.HTML, map[string]string{`{{ data.hostile }}`: `{{ data.id }}`})
}

func TestJSON(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.JSON, map[string]string{
		`{"id": {{ data.id }}, "total": {{ data.total }}}`:       `{"id": "42", "total": 100.00}`,
		`{"text": "Order {{ data.id }} of {{ data.name }}"}`:     `{"text": "Order 42 of Ada <b>\"&\"</b>"}`,
		`{"t":"{{ data.quote }}{{ data.lines }}{{ data.nul }}"}`: "{\"t\":\"\\\"\\\\\\n\\t\u2028a\\r\\nX-Evil: 1a\\u0000b\"}",
		`{"t":"a\"{{ data.quote }}\\{{ data.id }}"}`:             "{\"t\":\"a\\\"\\\"\\\\\\n\\t\u2028\\\\42\"}",
		`[{{ data.none }}, "{{ data.none }}", {{ data.flag }}]`:  `[null, "", true]`,
		`{{ data.big }}`:                             `12345678901234567890`,
		`"{{ data.big }}"`:                           `"12345678901234567890"`,
		`[{{ data.huge }}, {{ data.total }}]`:        `[1e999999999, 100.00]`,
		`{{ data.customer }}`:                        `{"a":"é<","z":1}`,
		`"{{ data.customer }}"`:                      `"{\"a\":\"é<\",\"z\":1}"`,
		`{"a":{{ data.tags }}}`:                      `{"a":["x",1.50]}`,
		`{"a":{"b":{{ {'c': {'d': data.total}} }}}}`: `{"a":{"b":{"c":{"d":100.00}}}}`,
		`{{ event.timestamp }}`:                      `"2026-11-23T08:00:00.123Z"`,
		`[{{ duration('90s') }}, {{ b'hi' }}, {{ 1.0 }}, {{ 1e300 }}, {{ -7 }}, {{ 18446744073709551615u }}]`: `["90s", "aGk=", 1, 1e+300, -7, 18446744073709551615]`,
		`{{ {1: 2u, true: null} }}`: `{"1":2,"true":null}`,
		`{{ event.user_id }}`:       `null`,
		`{"{{ data.id }}": 1}`:      `{"42": 1}`,
	})
	checkLoadErrors(t, template.JSON, map[string]string{
		``:                                  `the JSON document is empty`,
		`{"a": {{ data.id }}`:               `this is not JSON`,
		`{"a": {{ data.id }},}`:             `column 21: this is not JSON`,
		"{\"a\": 1,\n \"b\" {{ data.id }}}": `line 2, column 9: this is not JSON`,
		`{ {{ data.id }}: 1 }`:              `column 6: this is not JSON`,
		`{{ data.id }} {{ data.id }}`:       `this is not JSON`,
		`{"a": text {{ data.id }}}`:         `column 8: this is not JSON`,
		`{"a": "{{ data.id }}}`:             `this is not JSON`,
		`{"a": "\{{ data.id }}"}`:           `cannot follow a backslash`,
		`{"a": 1} x`:                        `this is not JSON`,
	})
	checkRefuses(t, template.JSON, map[string]string{
		`{{ double('Infinity') }}`: `JSON has no +Inf`,
		`{{ type(1) }}`:            `cannot be written as JSON`,
	})
}

func TestJSONDataGoesOutAsRecorded(t *testing.T) {
	t.Parallel()
	const recorded = `{"z": 1.10, "a": 123456789012345678901234567890, "m": [1e2, "<&>"], "u": "\u00e9"}`
	e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: json.RawMessage(recorded)}
	want := `{"z":1.10,"a":123456789012345678901234567890,"m":[1e2,"<&>"],"u":"\u00e9"}`
	for _, src := range []string{`{{ data }}`, `{{ event.data }}`, ` {"all": {{ event }}} `} {
		tmpl, err := template.Compile(src, template.JSON)
		if err != nil {
			t.Fatal(err)
		}
		got, err := tmpl.Render(t.Context(), e)
		if err != nil || !strings.Contains(got, want) {
			t.Errorf("%s = %s, %v; want %s in it", src, got, err, want)
		}
	}
}

func TestJSONEventHasTheShapeOfTheContract(t *testing.T) {
	t.Parallel()
	got, err := render(t, `{{ event }}`, template.JSON)
	if err != nil {
		t.Fatal(err)
	}
	standard, err := json.Marshal(event())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(decode(t, standard), decode(t, []byte(got))); diff != "" {
		t.Errorf("{{ event }} differs from the event's JSON (-want +got):\n%s", diff)
	}
}

func decode(t *testing.T, b []byte) any {
	t.Helper()
	var v any
	dec := json.NewDecoder(strings.NewReader(string(b)))
	dec.UseNumber()
	if err := dec.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestHeader(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Header, map[string]string{
		`Order {{ data.id }}`: `Order 42`, `{{ data.total }}{{ data.none }}`: `100.00`, `{{ data.emoji }}`: `😀`,
	})
	checkRefuses(t, template.Header, map[string]string{
		`{{ data.lines }}`: `a header cannot add a line`, `{{ data.nul }}`: `control character`,
		`{{ "a" + "\r" }}`: `a header cannot add a line`, `{{ "\u007f" }}`: `control character`,
	})
	checkLoadErrors(t, template.Header, map[string]string{"a\nb": `control character`, "{{ data.id }}\r": `control character`})
}

func TestHTML(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.HTML, map[string]string{
		`<p title="{{ data.name }}">{{ data.name }}</p>`: `<p title="Ada &lt;b&gt;&#34;&amp;&#34;&lt;/b&gt;">Ada &lt;b&gt;&#34;&amp;&#34;&lt;/b&gt;</p>`,
		`{{ data.customer }}`:                            `{&#34;a&#34;:&#34;é&lt;&#34;,&#34;z&#34;:1}`,
		`{{ "it's" }}`:                                   `it&#39;s`,
	})
}

func TestSlack(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Slack, map[string]string{
		`*{{ data.id }}* {{ data.tag }} <https://x|y> {{ data.name }}`: `*42* &lt;!channel&gt; <https://x|y> Ada &lt;b&gt;"&amp;"&lt;/b&gt;`,
	})
}

func TestAddress(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Address, map[string]string{
		`ops@example.com`:                               `ops@example.com`,
		`{{ data.email }}`:                              `ada@example.com`,
		`{{ data.email }}, ops@example.com`:             `ada@example.com, ops@example.com`,
		`order-{{ data.id }}@example.com`:               `order-42@example.com`,
		`ops@{{ data.host }}.example.com`:               `ops@shop-1.example.com`,
		`{{ data.name }} <{{ data.email }}>`:            `"Ada <b>\"&\"</b>" <ada@example.com>`,
		`"The {{ data.two }}" <{{ data.email }}>`:       `"The a@example.com, b@example.com" <ada@example.com>`,
		`x@example.com, {{ data.two }} <y@example.com>`: `x@example.com, "a@example.com, b@example.com" <y@example.com>`,
	})
	checkRefuses(t, template.Address, map[string]string{
		`{{ data.two }}`:                   `is not one plain email address`,
		`{{ data.pair }}`:                  `is not one plain email address`,
		`{{ data.lines }}`:                 `control character`,
		`{{ data.none }}`:                  `there is no address`,
		`{{ data.id }}`:                    `is not an email address`,
		`a@example.com,{{ data.name }}`:    `is not one plain email address`,
		`{{ data.lines }} <a@example.com>`: `an address cannot add a line`,
		`a@{{ data.two }}`:                 `is not one plain email address`,
	})
	checkLoadErrors(t, template.Address, map[string]string{
		``: `not an email address`, `nobody`: `not an email address`, "a@b.com\nBcc: x@y.z": `control character`,
		`{{ data.email }} {{ data.email }}`: `not an email address`,
	})
}

func TestEscapedValues(t *testing.T) {
	t.Parallel()
	compiler, err := template.NewCompiler()
	if err != nil {
		t.Fatal(err)
	}
	shout := func(value string) (string, error) {
		if value == "" {
			return "", errors.New("nothing to shout")
		}
		return strings.ToUpper(value), nil
	}
	render := func(src string) (string, error) {
		tmpl, err := compiler.CompileEscaped(src, "shouting", shout)
		if err != nil {
			t.Fatal(err)
		}
		return tmpl.Render(t.Context(), event())
	}
	if got, err := render(`said {{ 'a' + "b" }}: {{ 1 }}`); err != nil || got != "said AB: 1" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := render(`said {{ '' }}`); observer.ReasonOf(err) != observer.ReasonTemplate || !strings.Contains(err.Error(), "render shouting") {
		t.Errorf("%v, want a permanent error that names the language", err)
	}
	if _, err := compiler.CompileEscaped(`{{ nope }}`, "shouting", shout); err == nil {
		t.Error("an unknown variable compiled")
	}
}

func TestStaticAndString(t *testing.T) {
	t.Parallel()
	for src, static := range map[string]bool{``: true, `plain`: true, `{{ 'x' }}`: false, `a {{ data.id }}`: false} {
		tmpl, err := template.Compile(src, template.Text)
		if err != nil {
			t.Fatal(err)
		}
		if tmpl.Static() != static || tmpl.String() != src || tmpl.Kind() != template.Text {
			t.Errorf("%q: Static() = %v, String() = %q, Kind() = %v", src, tmpl.Static(), tmpl.String(), tmpl.Kind())
		}
	}
	if _, err := template.Compile(`x`, template.Kind(99)); err == nil {
		t.Error("an unknown kind compiled")
	}
}

func TestEndedContextIsNotAVerdict(t *testing.T) {
	t.Parallel()
	tmpl, err := template.Compile(`{{ data.id }}`, template.Text)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := tmpl.Render(ctx, event()); !errors.Is(err, context.Canceled) || !observer.Retryable(err) {
		t.Errorf("Render on an ended context: %v", err)
	}
}

func TestInvalidUTF8StaysValidJSON(t *testing.T) {
	t.Parallel()
	e := &observer.Event{ID: "1", Operation: observer.Custom, EntityID: "a\xffb", Data: json.RawMessage("{\"a\": \"x\xffy\"}")}
	for src, want := range map[string]string{
		`{{ event.entity_id }}`: "\"a\ufffdb\"", `"{{ event.entity_id }}"`: "\"a\ufffdb\"", `{{ data }}`: "{\"a\":\"x\ufffdy\"}",
		`{{ data.a }}`: "\"x\ufffdy\"",
	} {
		tmpl, err := template.Compile(src, template.JSON)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := tmpl.Render(t.Context(), e); got != want || err != nil {
			t.Errorf("%s = %q, %v; want %q", src, got, err, want)
		}
	}
}

func TestTemplateIsSafeForConcurrentUse(t *testing.T) {
	t.Parallel()
	tmpl, err := template.Compile(`{"d": {{ data }}, "n": "{{ data.name }}", "c": {{ changes }}, "t": {{ data.total * 3 }}}`, template.JSON)
	if err != nil {
		t.Fatal(err)
	}
	want, err := tmpl.Render(t.Context(), event())
	if err != nil {
		t.Fatal(err)
	}
	shared := event()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got, err := tmpl.Render(t.Context(), shared); got != want || err != nil {
					t.Errorf("Render = %q, %v; want %q", got, err, want)
				}
			}
		})
	}
	wg.Wait()
}
