//go:build unix

package main

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

// The example is built and run as its comment says, twice: the second start finds
// everything prepared, and repeats nothing.
func TestExampleRuns(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	program := filepath.Join(t.TempDir(), "shop")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for range 2 {
		cmd := exec.CommandContext(t.Context(), program)
		cmd.Env = append(os.Environ(), "DATABASE_URL="+url)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		text := readUntil(t, out, `is shipped to Berlin`, `is shipped to Lyon`, `is shipped to Porto`)
		if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
			t.Fatal(err)
		}
		rest, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), "msg=stopped done=3") {
			t.Errorf("ended with %v:\n%s%s", err, text, rest)
		}
	}
}

// readUntil reads lines until each of the words was in one.
func readUntil(t *testing.T, out io.Reader, words ...string) string {
	t.Helper()
	var text strings.Builder
	for lines := bufio.NewScanner(out); lines.Scan(); {
		text.WriteString(lines.Text() + "\n")
		missing := 0
		for _, w := range words {
			if !strings.Contains(text.String(), w) {
				missing++
			}
		}
		if missing == 0 {
			return text.String()
		}
	}
	t.Fatalf("it ended without all of %q:\n%s", words, text.String())
	return ""
}
