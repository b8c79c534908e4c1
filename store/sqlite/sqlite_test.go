package sqlite_test

import (
	"path/filepath"
	"testing"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/store/sqlite"
	"github.com/fraiseql/observer/store/storetest"
)

func open(t *testing.T, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// opened is closed with the test.
func opened(t *testing.T, cfg sqlite.Config) *sqlite.Store {
	t.Helper()
	s := open(t, cfg)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, opts storetest.Options) observer.StateStore {
		t.Helper()
		dir := opts.Dir
		if dir == "" {
			dir = t.TempDir()
		}
		return open(t, sqlite.Config{Path: filepath.Join(dir, "state.db"), MaxDead: opts.MaxDead, Now: opts.Now})
	})
}

func TestPruneQueuesWhatWasLeftBehind(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "state.db")
	storetest.Stranded(t, opened(t, sqlite.Config{Path: path}), func(key string) {
		execute(t, path, "DELETE FROM tb_delivery WHERE key = ?", key)
	})
}
