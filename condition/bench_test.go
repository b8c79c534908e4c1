package condition_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/condition"
)

func benchmark(b *testing.B, src string, e *observer.Event) {
	b.Helper()
	c, err := compileAlone(src)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Match(b.Context(), e); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkConditionStatus(b *testing.B) { benchmark(b, `data.status == 'shipped'`, update()) }

func BenchmarkConditionNumber(b *testing.B) { benchmark(b, `data.count > 2`, update()) }

func BenchmarkConditionDecimal(b *testing.B) { benchmark(b, `data.price * 3 == 0.3`, update()) }

func BenchmarkConditionChanged(b *testing.B) {
	benchmark(b, `field_changed_to('status', 'shipped')`, update())
}

func BenchmarkConditionList(b *testing.B) { benchmark(b, `data.items.exists(i, i.qty > 3)`, update()) }

// BenchmarkConditionEnvelope must not depend on the size of the row: nothing
// of it is decoded.
func BenchmarkConditionEnvelope(b *testing.B) {
	for _, columns := range []int{1, 100} {
		b.Run(fmt.Sprintf("columns=%d", columns), func(b *testing.B) {
			c, err := compileAlone(`event.entity_type == 'Order'`)
			if err != nil {
				b.Fatal(err)
			}
			data := wide(columns)
			b.ReportAllocs()
			for b.Loop() {
				e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: data}
				if _, err := c.Match(b.Context(), e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkConditionWide reads one column of a row that is decoded already: the
// other columns are not converted.
func BenchmarkConditionWide(b *testing.B) {
	for _, columns := range []int{1, 100} {
		b.Run(fmt.Sprintf("columns=%d", columns), func(b *testing.B) {
			e := &observer.Event{ID: "1", Operation: observer.Insert, EntityType: "Order", Data: wide(columns)}
			benchmark(b, `data.column_0 == 0`, e)
		})
	}
}

func BenchmarkConditionCompile(b *testing.B) {
	compiler, err := condition.NewCompiler()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := compiler.Compile(`data.status == 'shipped' && data.total > 100`); err != nil {
			b.Fatal(err)
		}
	}
}

func wide(columns int) json.RawMessage {
	var s strings.Builder
	for i := range columns {
		fmt.Fprintf(&s, `,"column_%d":%d`, i, i)
	}
	return json.RawMessage("{" + s.String()[1:] + "}")
}
