package config_test

import (
	"os"
	"testing"

	"github.com/fraiseql/observer/config"
)

// environ is a lookup in a map.
func environ(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		v, ok := vars[name]
		return v, ok
	}
}

// parse parses what must be valid.
func parse(t *testing.T, text string, vars map[string]string) *config.Config {
	t.Helper()
	c, err := config.Parse("dir/observer.toml", []byte(text), environ(vars))
	if err != nil {
		t.Fatalf("not valid:\n%v", err)
	}
	return c
}

func TestStarterAndExampleAreValid(t *testing.T) {
	t.Parallel()
	c := parse(t, string(config.Starter()), nil)
	if len(c.Databases) != 1 || len(c.Observers) != 1 {
		t.Errorf("starter has %d databases and %d observers, want one of each", len(c.Databases), len(c.Observers))
	}
	example, err := os.ReadFile("../examples/00-sqlite/fraiseql-observer.toml")
	if err != nil {
		t.Fatal(err)
	}
	c = parse(t, string(example), nil)
	if len(c.Observers) != 1 || len(c.Observers[0].Actions) != 2 {
		t.Errorf("example has %d observers", len(c.Observers))
	}
}
