package config_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
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
		placed(t, err, strings.Count(text, "\n")+1)
	})
}

// placed holds for every refused configuration.
func placed(t *testing.T, err error, lines int) {
	t.Helper()
	errs, ok := errors.AsType[config.Errors](err)
	if !ok || len(errs) == 0 {
		t.Fatalf("refused with %T", err)
	}
	for _, e := range errs {
		nowhere := e.Line == 0 && e.Key == ""
		if e.File != "f.toml" || e.Message == "" || nowhere || e.Line > lines || e.Line < 0 || e.Column < 0 {
			t.Errorf("no place: %q", e.Error())
		}
	}
}

// complete holds for every accepted configuration.
func complete(t *testing.T, c *config.Config) {
	t.Helper()
	if len(c.Databases) == 0 || c.State.Kind() == "" || c.State.Place() == "" || c.State.URL.IsZero() {
		t.Error("no database or no state store")
	}
	for _, d := range c.Databases {
		if d.Name == "" || d.Kind() == "" || d.Place() == "" || d.BatchSize < 1 || d.PollInterval <= 0 {
			t.Errorf("database %q is incomplete", d.Name)
		}
	}
	for _, o := range c.Observers {
		completeObserver(t, o)
	}
}

func completeObserver(t *testing.T, o config.Observer) {
	t.Helper()
	if o.Name == "" || o.Entity == "" || len(o.Actions) == 0 || o.Retry.MaxAttempts < 1 {
		t.Errorf("observer %q is incomplete", o.Name)
	}
	if slices.ContainsFunc(o.Actions, func(a config.Action) bool { return a.Config == nil || a.Timeout <= 0 }) {
		t.Errorf("an action of %q is incomplete", o.Name)
	}
}
