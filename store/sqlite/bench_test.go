package sqlite_test

import (
	"path/filepath"
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
	"github.com/fraiseql/observer/store/storetest"
)

func BenchmarkStore(b *testing.B) {
	storetest.Bench(b, func(b *testing.B) observer.StateStore {
		b.Helper()
		s, err := sqlite.Open(b.Context(), sqlite.Config{Path: filepath.Join(b.TempDir(), "state.db")})
		if err != nil {
			b.Fatal(err)
		}
		return s
	})
}
