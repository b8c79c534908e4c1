//go:build unix

// Package examples_test starts every example as its README says, against real
// servers, and waits for what its receiver is to get.
package examples_test

import (
	"bufio"
	"context"
	"database/sql"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	_ "modernc.org/sqlite"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

const patience = 60 * time.Second

// TestExamplesBoot runs the commands of each README.
func TestExamplesBoot(t *testing.T) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "fraiseql-observer")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "../cmd/fraiseql-observer").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	const first, second = `{"order": 1, "total": 12.50}`, `{"order": 2, "total": 7.25}`
	for dir, want := range map[string][]string{
		"01-postgres-only": {first}, "02-postgres-redis": {first}, "03-nats-distributed": {first}, "04-multi-database": {first, second},
	} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			e := newExample(t, dir, binary)
			for _, command := range commandsOf(t, e.dir) {
				e.do(t, command)
			}
			e.await(t, want)
		})
	}
}

// example is a copy of the directory of an example.
type example struct {
	dir, binary string
	vars        map[string]string
	bodies      chan string
}

func newExample(t *testing.T, name, binary string) *example {
	t.Helper()
	e := &example{dir: t.TempDir(), binary: binary, bodies: make(chan string, 100)}
	if err := os.CopyFS(e.dir, os.DirFS(name)); err != nil {
		t.Fatal(err)
	}
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		e.bodies <- string(body)
	}))
	t.Cleanup(receiver.Close)
	e.vars = map[string]string{"HOOK_URL": receiver.URL + "/shipped", "SHOP_URL": testenv.Database(t)}
	readme := read(t, filepath.Join(e.dir, "README.md"))
	if strings.Contains(readme, "REDIS_URL=") {
		e.vars["REDIS_URL"] = testenv.Redis(t)
	}
	if strings.Contains(readme, "STATE_URL=") {
		e.vars["STATE_URL"] = testenv.Database(t)
	}
	if conf := regexp.MustCompile(`(?m)^nats-server -c (.*)$`).FindStringSubmatch(readme); conf != nil {
		text := read(t, filepath.Join(name, conf[1]))
		if !regexp.MustCompile(`(?m)^\s*sync_interval: always$`).MatchString(text) {
			t.Errorf("%s does not write to the disk what it acknowledges", conf[1])
		}
		e.vars["NATS_URL"] = testenv.PrivateNATS(t, testenv.NATSOptions{Conf: text}).URL()
	}
	return e
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// commandsOf are the lines of the shell block of the README.
func commandsOf(t *testing.T, dir string) []string {
	t.Helper()
	block := regexp.MustCompile("(?s)```sh\n(.*?)```").FindStringSubmatch(read(t, filepath.Join(dir, "README.md")))
	if block == nil {
		t.Fatal("the README has no commands")
	}
	return strings.Split(strings.TrimSpace(block[1]), "\n")
}

// do does what a command would. The servers run already, and databases are asked
// without their own programs.
func (e *example) do(t *testing.T, command string) {
	t.Helper()
	words := strings.Fields(command)
	switch statement := regexp.MustCompile(`"([^"$]+)"$`).FindStringSubmatch(command); words[0] {
	case "export", "nats-server":
	case "psql":
		testenv.Exec(t, testenv.Connect(t, e.vars["SHOP_URL"]), statement[1])
	case "sqlite3":
		e.sqlite(t, words[1], statement[1])
	case "fraiseql-observer":
		// The end of the test ends it in order.
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), e.binary, words[1:]...)
		cmd.Dir, cmd.Env = e.dir, os.Environ()
		for name, value := range e.vars {
			cmd.Env = append(cmd.Env, name+"="+value)
		}
		if words[1] == "run" {
			daemon(t, cmd)
			return
		}
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", command, err, out)
		}
	default:
		t.Fatalf("a command that is not known here: %s", command)
	}
}

func (e *example) sqlite(t *testing.T, file, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(e.dir, file)+"?_pragma=busy_timeout(10000)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	if _, err := db.ExecContext(t.Context(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// daemon starts a process, and ends it in order when the test ends.
func daemon(t *testing.T, cmd *exec.Cmd) {
	t.Helper()
	log, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	running, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		isRunning := sync.OnceFunc(func() { close(running) })
		for lines := bufio.NewScanner(log); lines.Scan(); {
			text.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), "msg=running") {
				isRunning()
			}
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM) // it may be over, which Wait tells
		<-ended
		if err := cmd.Wait(); err != nil {
			t.Errorf("%v ended with %v", cmd.Args[1:], err)
		}
		if t.Failed() {
			t.Logf("%v:\n%s", cmd.Args[1:], text.String())
		}
	})
	select {
	case <-running:
	case <-ended:
		t.Fatalf("%v ended", cmd.Args[1:])
	case <-time.After(patience):
		t.Fatalf("%v does not run", cmd.Args[1:])
	}
}

// await waits for these bodies, in any order, and each once.
func (e *example) await(t *testing.T, want []string) {
	t.Helper()
	missing := map[string]bool{}
	for _, body := range want {
		missing[body] = true
	}
	for deadline := time.After(patience); len(missing) > 0; {
		select {
		case body := <-e.bodies:
			if !missing[body] {
				t.Errorf("received %s, want each once of %q", body, want)
			}
			delete(missing, body)
		case <-deadline:
			t.Fatalf("did not receive %v", missing)
		}
	}
}
