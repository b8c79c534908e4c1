package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/config"
)

// FuzzParse: nothing panics, every refusal is [config.Errors] with places, and
// what is accepted is complete.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*/*.toml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text), "7")
	}
	f.Add(string(config.Starter()), "")
	f.Fuzz(func(t *testing.T, text, variable string) {
		// Every variable that is not a key of ours has a value.
		lookup := func(name string) (string, bool) { return variable, !strings.HasPrefix(name, "FRAISEQL_") }
		c, err := config.Parse("f.toml", []byte(text), lookup)
		if err == nil {
			complete(t, c)
			return
		}
		var errs config.Errors
		if !errors.As(err, &errs) || len(errs) == 0 || c != nil {
			t.Fatalf("refused with %T, configuration %v", err, c)
		}
		lines := strings.Count(text, "\n") + 1
		for _, e := range errs {
			if e.File != "f.toml" || e.Message == "" || e.Line == 0 && e.Key == "" || e.Line > lines || e.Line < 0 || e.Column < 0 {
				t.Errorf("no place: %q", e.Error())
			}
		}
	})
}

// complete holds for every accepted configuration.
func complete(t *testing.T, c *config.Config) {
	t.Helper()
	if len(c.Databases) == 0 || c.State.FilePath() == "" {
		t.Error("no database or no state store")
	}
	for _, d := range c.Databases {
		if d.Name == "" || d.Scheme() != "sqlite" || d.FilePath() == "" || d.BatchSize < 1 || d.PollInterval <= 0 {
			t.Errorf("database %q is incomplete", d.Name)
		}
	}
	for _, o := range c.Observers {
		if o.Name == "" || o.Entity == "" || len(o.Actions) == 0 || o.Retry.MaxAttempts < 1 {
			t.Errorf("observer %q is incomplete", o.Name)
		}
		for _, a := range o.Actions {
			if a.Config == nil || a.Timeout <= 0 {
				t.Errorf("an action of %q is incomplete", o.Name)
			}
		}
	}
}
