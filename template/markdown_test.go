package template_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

func TestMarkdown(t *testing.T) {
	t.Parallel()
	checkRenders(t, template.Markdown, map[string]string{
		`**{{ data.id }}** [x](https://example.com)`: `**42** [x](https://example.com)`,
		`{{ data.total }} {{ data.at }}`:             `100.00 2026-01-02T03:04:05Z`,
		`{{ data.tag }}`:                             `\<!channel\>`,
		`{{ data.url }}`:                             `https://hooks.example.com/in?k=v`,
		`{{ data.email }}`:                           `ada@example.com`,
		`{{ data.none }}{{ data.emoji }}`:            `😀`,
	})
	for text, want := range map[string]string{
		`[bank](https://evil.example)`: `\[bank\]\(https://evil.example)`,
		`*b* _i_ ~~s~~ ||h|| \`:        `\*b\* \_i\_ \~\~s\~\~ \|\|h\|\| \\`,
		"`code`":                       "\\`code\\`",
		`see https://a.example/x_y_z*, or [it](http://b.example/_)`: `see https://a.example/x_y_z*, or \[it\]\(http://b.example/_)`,
		`https://a.example](https://b.example)`:                     `https://a.example\]\(https://b.example)`,
		`https://a.example/\](x`:                                    `https://a.example/\\\]\(x`,
		`@everyone <@123>`:                                          "@\u200beveryone \\<@123\\>",
	} {
		data, err := json.Marshal(map[string]string{"x": text})
		if err != nil {
			t.Fatal(err)
		}
		got := renderMarkdown(t, `{{ data.x }}`, data)
		if got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

func renderMarkdown(t testing.TB, src string, data []byte) string {
	t.Helper()
	tmpl, err := template.Compile(src, template.Markdown)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tmpl.Render(t.Context(), &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "E", Data: data})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

// FuzzMarkdown: no value makes a link with a text of its own, or a mention.
func FuzzMarkdown(f *testing.F) {
	for _, seed := range []string{`[a](b)`, `\[a](b)`, `https://x](y)`, `https://x[`, `<@1>`, `\\](`, `https://x\](`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, x string) {
		data, err := json.Marshal(map[string]string{"x": x})
		if err != nil {
			t.Skip()
		}
		got := renderMarkdown(t, `{{ data.x }}`, data)
		plain := strings.ReplaceAll(got, `\\`, "")
		for i := range len(plain) {
			if strings.IndexByte("[]<>", plain[i]) >= 0 && (i == 0 || plain[i-1] != '\\') {
				t.Fatalf("%q gives %q, where %q at %d is not escaped", x, got, plain[i], i)
			}
		}
		if strings.Contains(got, "](") {
			t.Fatalf("%q gives %q", x, got)
		}
	})
}
