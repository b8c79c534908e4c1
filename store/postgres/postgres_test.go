package postgres_test

import (
	"crypto/rand"
	"path/filepath"
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/postgres"
	"github.com/fraiseql/observer/store/storetest"
)

func open(t testing.TB, cfg postgres.Config) *postgres.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func suite(t *testing.T, url string) {
	t.Helper()
	storetest.Run(t, func(t *testing.T, opts storetest.Options) observer.StateStore {
		t.Helper()
		// Any name will do for a schema, so the directory gives one.
		schema := `Of "` + rand.Text()
		if opts.Dir != "" {
			schema = filepath.Base(filepath.Dir(opts.Dir)) + "/" + filepath.Base(opts.Dir)
			schema = schema[max(0, len(schema)-63):]
		}
		return open(t, postgres.Config{URL: observer.NewSecret(url), Schema: schema, MaxDead: opts.MaxDead, Now: opts.Now})
	})
}

func TestStore(t *testing.T) {
	t.Parallel()
	suite(t, testenv.Database(t))
}
