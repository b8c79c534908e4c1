package template_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/template"
)

func benchmark(b *testing.B, src string, kind template.Kind, e *observer.Event) {
	b.Helper()
	tmpl, err := template.Compile(src, kind)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.Render(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkTemplateText(b *testing.B) {
	benchmark(b, `Order {{ data.id }} of {{ data.name }}`, template.Text, event())
}

func BenchmarkTemplateJSON(b *testing.B) {
	benchmark(b, `{"id": {{ data.id }}, "text": "{{ data.name }} paid {{ data.total }}", "at": {{ event.timestamp }}}`, template.JSON, event())
}

func BenchmarkTemplateURL(b *testing.B) {
	benchmark(b, `https://example.com/orders/{{ data.id }}?name={{ data.name }}`, template.URL, event())
}

func BenchmarkTemplateStatic(b *testing.B) {
	benchmark(b, `https://example.com/orders`, template.URL, event())
}

// BenchmarkTemplateWide renders a whole row of a hundred columns, decoded already.
func BenchmarkTemplateWide(b *testing.B) {
	var s strings.Builder
	for i := range 100 {
		fmt.Fprintf(&s, `,"column_%d":"value %d"`, i, i)
	}
	e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: json.RawMessage("{" + s.String()[1:] + "}")}
	benchmark(b, `{"row": {{ data }}}`, template.JSON, e)
}

func BenchmarkTemplateCompile(b *testing.B) {
	compiler, err := template.NewCompiler()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := compiler.Compile(`{"id": {{ data.id }}, "text": "{{ data.name }}"}`, template.JSON); err != nil {
			b.Fatal(err)
		}
	}
}
