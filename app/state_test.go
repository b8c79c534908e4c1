package app_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/app"
	"github.com/fraiseql/observer/config"
)

// A state that cannot be opened is said once, with its path and what to do.
func TestNewExplainsAStateThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, name := range []string{"a-directory"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	text := []byte(strings.Repeat("not a database\n", 100))
	if err := os.WriteFile(filepath.Join(dir, "text"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	for state, want := range map[string][]string{
		"no/such/state.db": {"state DIR/no/such/state.db: the directory DIR/no/such does not exist; create it, or give another [state] url"},
		"text/state.db":    {"state DIR/text/state.db: DIR/text is not a directory; give another [state] url"},
		"a-directory":      {"open state store: DIR/a-directory is a directory; give the path of a file"},
		"text":             {"open state store: DIR/text is not a SQLite database; choose another path"},
	} {
		file := "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n[state]\nurl = \"sqlite:" + state + "\"\n"
		cfg, err := config.Parse(filepath.Join(dir, "o.toml"), []byte(file), nil)
		if err != nil {
			t.Fatal(err)
		}
		daemon, err := app.New(t.Context(), app.Options{Config: cfg})
		if err == nil {
			t.Errorf("%s: opened", state)
			_ = daemon.Close()
			continue
		}
		got := filepath.ToSlash(strings.ReplaceAll(err.Error(), dir, "DIR"))
		for i, part := range want {
			if !strings.Contains(got, part) || i == 0 && !strings.HasPrefix(got, part) {
				t.Errorf("%s: got %q, want %q", state, got, part)
			}
		}
	}
}
