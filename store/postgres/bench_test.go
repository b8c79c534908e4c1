package postgres_test

import (
	"crypto/rand"
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
	"github.com/fraiseql/observer/store/storetest"
)

// BenchmarkStore runs against a server that writes through to the disk.
func BenchmarkStore(b *testing.B) {
	server := testenv.PrivatePostgres(b, testenv.Options{Durable: true})
	for _, mode := range []string{"cache_describe", "cache_statement"} {
		b.Run(mode, func(b *testing.B) {
			url := server.Database(b) + "&default_query_exec_mode=" + mode
			storetest.Bench(b, func(b *testing.B) observer.StateStore {
				b.Helper()
				return open(b, postgres.Config{URL: observer.NewSecret(url), Schema: rand.Text()})
			})
		})
	}
}
