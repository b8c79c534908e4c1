package template_test

import (
	"encoding/json"
	"net/url"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

// FuzzTemplate feeds any template and any data to every kind: nothing panics,
// and what comes out keeps the promise of its kind.
func FuzzTemplate(f *testing.F) {
	for _, src := range []string{
		`{"a": {{ data.x }}, "b": "{{ data.x }}"}`, `{{ data }}`, `https://example.com/a/{{ data.x }}?b={{ data.x }}#{{ data.x }}`,
		`https://{{ data.x }}.example.com/`, `{{ data.x }}/y`, `Order {{ data.x }}`, `{{ data.x }} <{{ data.y }}>`,
		`"{{ data.x }}" <a@b.com>`, `{{ '}}' }}`, `{{ {'a': {'b': data.x}}}}`, `{{ r'\' }}`, "{{ data.x // }}\n }}", `{{`, `"{{ data.x }}`,
	} {
		f.Add(src, "a\r\nb", "{{ data.y }}")
		f.Add(src, `"\ <>&%2f`, "..")
		f.Add(src, "a@b.com, c@d.com", "\x00\xff\u2028")
	}
	compiler, err := template.NewCompiler()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, src, x, y string) {
		data, err := json.Marshal(map[string]any{"x": x, "y": y, "n": json.Number("1.50")})
		if err != nil {
			t.Skip()
		}
		e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", EntityID: y, Data: data}
		for kind := template.Text; kind <= template.Address; kind++ {
			tmpl, err := compiler.Compile(src, kind)
			if err != nil {
				if strings.ContainsAny(err.Error(), "\n\r") {
					t.Errorf("%v %q: error of several lines: %q", kind, src, err)
				}
				continue
			}
			got, err := tmpl.Render(t.Context(), e)
			if err != nil {
				if observer.ReasonOf(err) != observer.ReasonTemplate || strings.Contains(err.Error(), "internal error") {
					t.Errorf("%v %q: %v", kind, src, err)
				}
				continue
			}
			checkPromise(t, kind, src, got)
		}
	})
}

func checkPromise(t *testing.T, kind template.Kind, src, got string) {
	t.Helper()
	switch kind {
	case template.JSON:
		if !json.Valid([]byte(got)) {
			t.Errorf("JSON %q rendered %q", src, got)
		}
	case template.Header, template.Address:
		if strings.ContainsAny(got, "\r\n\x00") {
			t.Errorf("%v %q rendered %q", kind, src, got)
		}
	case template.URL:
		u, err := url.Parse(got)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			t.Errorf("URL %q rendered %q: %v", src, got, err)
		}
	default: // promises nothing more
	}
}

// FuzzValue puts any value into fixed templates: the text around it stays what
// it was, whatever the value is.
func FuzzValue(f *testing.F) {
	for _, x := range []string{
		``, `..`, `a/b?c#d%2e`, `"`, `\`, "\r\n", `{{ data.x }}`, `a@b.c`, "\x00\xff", `<!channel>`, "\u2028", `a, b`, `<a>`,
	} {
		f.Add(x)
	}
	compile := func(src string, kind template.Kind) *template.Template {
		tmpl, err := template.Compile(src, kind)
		if err != nil {
			f.Fatal(err)
		}
		return tmpl
	}
	body := compile(`{"a":"[{{ data.x }}]","b":{{ data.x }},"c":1}`, template.JSON)
	path := compile(`https://example.com/p/{{ data.x }}/end?q={{ data.x }}&z=1#f`, template.URL)
	slack := compile(`{{ data.x }}`, template.Slack)
	page := compile(`{{ data.x }}`, template.HTML)
	plain := compile(`{{ data.x }}`, template.Text)
	f.Fuzz(func(t *testing.T, x string) {
		data, err := json.Marshal(map[string]string{"x": x})
		if err != nil {
			t.Skip()
		}
		e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: data}
		render := func(tmpl *template.Template) string {
			got, err := tmpl.Render(t.Context(), e)
			if err != nil && tmpl != path {
				t.Fatalf("%v of %q: %v", tmpl, x, err)
			}
			return got
		}
		checkBody(t, x, render(body))
		if got := render(path); got != "" {
			checkPath(t, x, got)
		}
		if got := render(slack); strings.ContainsAny(got, "<>") {
			t.Errorf("slack of %q: %q", x, got)
		}
		if got := render(page); strings.ContainsAny(got, `<>"'`) {
			t.Errorf("HTML of %q: %q", x, got)
		}
		if got := render(plain); got != decoded(t, data) {
			t.Errorf("text of %q: %q", x, got)
		}
	})
}

func decoded(t *testing.T, data []byte) string {
	t.Helper()
	var v map[string]string
	if err := json.Unmarshal(data, &v); err != nil {
		t.Fatal(err)
	}
	return v["x"]
}

func checkBody(t *testing.T, x, got string) {
	t.Helper()
	var body struct {
		A, B string
		C    int
	}
	dec := json.NewDecoder(strings.NewReader(got))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&body); err != nil || body.A != "["+body.B+"]" || body.C != 1 {
		t.Errorf("body of %q: %q: %v", x, got, err)
	}
}

func checkPath(t *testing.T, x, got string) {
	t.Helper()
	u, err := url.Parse(got)
	if err != nil {
		t.Fatalf("URL of %q: %q: %v", x, got, err)
	}
	segments := strings.Split(u.EscapedPath(), "/")
	if u.Host != "example.com" || len(segments) != 4 || segments[1] != "p" || segments[3] != "end" || u.Fragment != "f" {
		t.Errorf("URL of %q: %q", x, got)
	}
	value, err := url.PathUnescape(segments[2])
	if err != nil || value != u.Query().Get("q") || u.Query().Get("z") != "1" || len(u.Query()) != 2 {
		t.Errorf("URL of %q: %q gives %q and %v", x, got, value, u.Query())
	}
}
