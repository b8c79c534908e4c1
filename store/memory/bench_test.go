package memory_test

import (
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(*testing.B) observer.StateStore { return memory.New(memory.Config{}) })
}
