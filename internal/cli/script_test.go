package cli_test

import (
	"database/sql"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	_ "modernc.org/sqlite"

	"github.com/fraiseql/observer/internal/cli"
	"github.com/fraiseql/observer/internal/testenv"
)

// update rewrites the golden files inside the scripts.
var update = flag.Bool("update", false, "rewrite the expected output in the scripts")

// patience bounds every wait for a condition; it is long because it is only
// reached by a failing test.
const patience = 60 * time.Second

func TestMain(m *testing.M) {
	testscript.Main(withPostgres{m}, map[string]func(){
		"fraiseql-observer": func() { os.Exit(cli.Main(testContext(), os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

// withPostgres ends the server that tests share after they ran.
type withPostgres struct{ testscript.TestingM }

func (m withPostgres) Run() int { return testenv.Main(m.TestingM) }

// quickExit keeps the programs under test, which are built with the race
// detector when the tests are, from waiting a second at their end.
const quickExit = "atexit_sleep_ms=0"

// TestScripts drives the real command line as a process of its own.
func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, scripts(filepath.Join("testdata", "script")))
}

// scripts are how the scripts in a folder run.
func scripts(dir string) testscript.Params {
	return testscript.Params{
		Dir:                 dir,
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			r := newReceiver()
			env.Defer(r.close)
			env.Setenv("RECEIVER", r.url())
			env.Setenv("GORACE", quickExit)
			env.Values[receiverKey{}] = r
			return nil
		},
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"exit":     exitCommand,
			"expand":   expandCommand,
			"receiver": receiverCommand,
			"sqlite":   sqliteCommand,
			"waitfor":  waitforCommand,
			"key":      keyCommand,
		},
	}
}

// exit CODE PROGRAM ARGS... runs a program that must end with a code.
func exitCommand(ts *testscript.TestScript, _ bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		if got = exitCodeOf(err); got < 0 {
			ts.Check(err)
		}
	}
	if got != want {
		ts.Fatalf("%s ended with code %d, want %d", strings.Join(args[1:], " "), got, want)
	}
	if errors := ts.ReadFile("stderr"); strings.Contains(errors, "goroutine ") || strings.Contains(errors, ".go:") {
		ts.Fatalf("an error shows a stack trace:\n%s", errors)
	}
}

// expand FILE replaces $RECEIVER in a file.
func expandCommand(ts *testscript.TestScript, _ bool, args []string) {
	path := ts.MkAbs(args[0])
	text := strings.ReplaceAll(ts.ReadFile(path), "$RECEIVER", ts.Getenv("RECEIVER"))
	ts.Check(os.WriteFile(path, []byte(text), 0o600))
}

// sqlite FILE SQL runs statements, creating the file when it is missing.
func sqliteCommand(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+ts.MkAbs(args[0])+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	_, err = db.ExecContext(testContext(), args[1])
	ts.Check(err)
	ts.Check(db.Close())
}

// waitfor REGEXP PROGRAM ARGS... runs a program again and again until it prints
// what is waited for.
func waitforCommand(ts *testscript.TestScript, _ bool, args []string) {
	want := regexp.MustCompile("(?m)" + args[0])
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-ticker.C {
		_ = ts.Exec(args[1], args[2:]...) // whether it fails is part of what it prints
		if want.MatchString(ts.ReadFile("stdout")) {
			return
		}
	}
	ts.Fatalf("%s never printed %s; at last:\n%s", strings.Join(args[1:], " "), args[0], ts.ReadFile("stdout"))
}

// key NAME REGEXP sets a variable to the first match in the last output.
func keyCommand(ts *testscript.TestScript, _ bool, args []string) {
	match := regexp.MustCompile(args[1]).FindString(ts.ReadFile("stdout"))
	if match == "" {
		ts.Fatalf("no match for %s in:\n%s", args[1], ts.ReadFile("stdout"))
	}
	ts.Setenv(args[0], match)
}
