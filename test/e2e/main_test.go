//go:build unix

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// binary is the program under test, mortal the same with failpoints. TestMain
// sets them before any test runs.
var binary, mortal string //nolint:gochecknoglobals // TestMain has no other way to hand them to the tests

func TestMain(m *testing.M) {
	code, err := buildAndRun(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func buildAndRun(m *testing.M) (code int, err error) {
	dir, err := os.MkdirTemp("", "fraiseql-observer-e2e-")
	if err != nil {
		return 1, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary, mortal = filepath.Join(dir, "fraiseql-observer"), filepath.Join(dir, "fraiseql-observer-mortal")
	if err := errors.Join(build(binary), build(mortal, "-tags", "failpoints")); err != nil {
		return 1, err
	}
	return testenv.Main(m), nil
}

func build(to string, flags ...string) error {
	args := append([]string{"build", "-o", to}, flags...)
	if raceEnabled {
		args = append(args, "-race")
	}
	args = append(args, "github.com/fraiseql/observer/cmd/fraiseql-observer")
	if out, err := exec.CommandContext(context.Background(), "go", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w\n%s", err, out)
	}
	return nil
}

// patience is how long a test waits for what must happen. It is never waited
// for in full unless the test fails.
const patience = 30 * time.Second

// eventually waits until cond holds.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	poll(t, 5*time.Millisecond, patience, what, cond)
}

// slowly is eventually for what takes seconds, and costs something to look at.
func slowly(t *testing.T, what string, cond func() bool) {
	t.Helper()
	poll(t, 100*time.Millisecond, patience, what, cond)
}

func poll(t *testing.T, every, patience time.Duration, what string, cond func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// random is a source of numbers whose seed is logged, and can be given.
func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv("E2E_SEED"); text != "" {
		var err error
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatalf("E2E_SEED: %v", err)
		}
	}
	t.Logf("E2E_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// pause waits a random time up to most: the moment of a kill is the one thing
// that must not be waited for.
func pause(r *rand.Rand, least, most time.Duration) {
	<-time.After(least + time.Duration(r.Int64N(int64(most-least))))
}

// commandWith runs the program to its end, with more environment, and gives its
// output and exit code.
func commandWith(t *testing.T, dir string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	return programWith(t, binary, dir, env, args...)
}

// programWith runs one of the two programs. The code of one that was killed is
// -1.
func programWith(t *testing.T, program, dir string, env []string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}
