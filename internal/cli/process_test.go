package cli_test

import (
	"bufio"
	"bytes"
	"database/sql"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	sqlitesource "github.com/fraiseql/observer/source/sqlite"
	sqlitestore "github.com/fraiseql/observer/store/sqlite"
)

// project is a directory with a configuration, a database with a captured
// table and a receiver.
type project struct {
	t        *testing.T
	dir      string
	receiver *receiver
	env      []string // added to the environment of every command
}

const observerTables = `
[[observers]]
name = "every-order"
entity = "Order"
retry = { max_attempts = 1 }
[[observers.actions]]
type = "webhook"
url = "$RECEIVER/hook"
`

func newProject(t *testing.T) *project {
	t.Helper()
	p := &project{t: t, dir: t.TempDir(), receiver: newReceiver()}
	t.Cleanup(p.receiver.close)
	p.configure(observerTables)
	p.sql("CREATE TABLE orders (id INTEGER PRIMARY KEY, status TEXT)")
	_, err := sqlitesource.AddCapture(t.Context(), p.path("shop.db"), sqlitesource.Capture{Table: "orders", Entity: "Order"})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *project) path(name string) string { return filepath.Join(p.dir, name) }

// configure writes the configuration, whole at once: a daemon may read it.
func (p *project) configure(observers string) {
	p.t.Helper()
	text := strings.ReplaceAll(`
[[databases]]
name = "shop"
url = "sqlite:shop.db"
[network]
allow = ["127.0.0.0/8"]
`+observers, "$RECEIVER", p.receiver.url())
	if err := os.WriteFile(p.path("new.toml"), []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
	if err := os.Rename(p.path("new.toml"), p.path("fraiseql-observer.toml")); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) sql(statement string) {
	p.t.Helper()
	db, err := sql.Open("sqlite", "file:"+p.path("shop.db")+"?_pragma=busy_timeout(10000)")
	if err != nil {
		p.t.Fatal(err)
	}
	if _, err := db.ExecContext(p.t.Context(), statement); err != nil {
		p.t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		p.t.Fatal(err)
	}
}

// store opens the state as a daemon would.
func (p *project) store() *sqlitestore.Store {
	p.t.Helper()
	s, err := sqlitestore.Open(p.t.Context(), sqlitestore.Config{Path: p.path("fraiseql-observer.state.db")})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = s.Close() })
	return s
}

// keep stores a delivery of the configured action and returns its key.
func (p *project) keep(id string, change func(*observer.Delivery)) string {
	p.t.Helper()
	d := observer.NewDelivery(&observer.Event{
		ID: id, Operation: observer.Insert, EntityType: "Order", EntityID: "1", Data: []byte(`{"id":1}`), Timestamp: time.Now(),
	}, "every-order", 0, "webhook")
	d.State, d.Reason, d.Error = observer.Dead, observer.ReasonPermanent, "refused"
	change(d)
	if _, err := p.store().InsertDeliveries(p.t.Context(), d); err != nil {
		p.t.Fatal(err)
	}
	return d.Key
}

func unchanged(*observer.Delivery) {}

// result is how a command ended.
type result struct {
	code           int
	stdout, stderr string
}

func (p *project) run(args ...string) result {
	p.t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(p.t.Context(), "fraiseql-observer", args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &stdout, &stderr
	cmd.Env = append(append(os.Environ(), "GORACE="+quickExit), p.env...)
	if err := cmd.Run(); err != nil && exitCodeOf(err) < 0 {
		p.t.Fatalf("%v: %v", args, err)
	}
	return result{code: cmd.ProcessState.ExitCode(), stdout: stdout.String(), stderr: stderr.String()}
}

// must runs a command that succeeds and returns what it printed.
func (p *project) must(args ...string) string {
	p.t.Helper()
	r := p.run(args...)
	if r.code != 0 {
		p.t.Fatalf("%v ended with code %d: %s", args, r.code, r.stderr)
	}
	return r.stdout
}

// process is a running fraiseql-observer whose standard error is read as it
// comes.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout bytes.Buffer
	lines  chan string
	seen   []string
}

// start runs the daemon and waits until it works.
func (p *project) start(args ...string) *process {
	p.t.Helper()
	d := p.launch(append([]string{"run"}, args...)...)
	d.await("msg=running")
	return d
}

func (p *project) launch(args ...string) *process {
	p.t.Helper()
	d := &process{t: p.t, lines: make(chan string, 1000)}
	d.cmd = exec.CommandContext(p.t.Context(), "fraiseql-observer", args...)
	d.cmd.Dir, d.cmd.Stdout = p.dir, &d.stdout
	d.cmd.Env = append(append(os.Environ(), "GORACE="+quickExit), p.env...)
	stderr, err := d.cmd.StderrPipe()
	if err != nil {
		p.t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	go func() {
		defer close(d.lines)
		for scanner := bufio.NewScanner(stderr); scanner.Scan(); {
			d.lines <- scanner.Text()
		}
	}()
	return d
}

// await reads standard error until a line has every one of the words, and returns it.
func (d *process) await(words ...string) string {
	d.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		select {
		case line, ok := <-d.lines:
			if !ok {
				d.t.Fatalf("it ended without logging %q:\n%s", words, strings.Join(d.seen, "\n"))
			}
			d.seen = append(d.seen, line)
			if containsAll(line, words) {
				return line
			}
		case <-deadline.C:
			d.t.Fatalf("it never logged %q:\n%s", words, strings.Join(d.seen, "\n"))
		}
	}
}

func containsAll(line string, words []string) bool {
	for _, w := range words {
		if !strings.Contains(line, w) {
			return false
		}
	}
	return true
}

func (d *process) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// wait waits for the end of the process.
func (d *process) wait() *os.ProcessState {
	d.t.Helper()
	for line := range d.lines {
		d.seen = append(d.seen, line)
	}
	_ = d.cmd.Wait() // its state says more
	return d.cmd.ProcessState
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
