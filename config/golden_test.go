package config_test

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/config"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// fileEnviron reads the lines "# env: NAME=value" of a test file.
func fileEnviron(text string) map[string]string {
	vars := map[string]string{}
	for line := range strings.Lines(text) {
		if entry, ok := strings.CutPrefix(strings.TrimSpace(line), "# env: "); ok {
			name, value, _ := strings.Cut(entry, "=")
			vars[name] = value
		}
	}
	return vars
}

func TestBadConfigurations(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) < 40 {
		t.Fatalf("%d bad configurations (%v), want at least 40", len(files), err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".toml"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			vars := fileEnviron(string(text))
			_, err = config.Parse(filepath.Base(file), text, environ(vars))
			checkErrors(t, err, vars)
			compareGolden(t, strings.TrimSuffix(file, ".toml")+".golden", err.Error()+"\n")
		})
	}
}

// checkErrors holds for every refused configuration, whatever is wrong with it.
func checkErrors(t *testing.T, err error, vars map[string]string) {
	t.Helper()
	var errs config.Errors
	if !errors.As(err, &errs) || len(errs) == 0 {
		t.Fatalf("not refused with config.Errors: %v", err)
	}
	for _, e := range errs {
		if e.File == "" || e.Message == "" || e.Line == 0 && e.Key == "" || (e.Line == 0) != (e.Column == 0) {
			t.Errorf("%+v has no place", e)
		}
		if strings.Contains(e.Error(), "\n") {
			t.Errorf("%q is more than one line", e.Error())
		}
	}
	for name, value := range vars {
		if len(value) > 3 && strings.Contains(err.Error(), value) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("the value of %s is in the message: %v", name, err)
		}
	}
}

func compareGolden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v (write it with: go test ./config -update)", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
