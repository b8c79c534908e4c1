//go:build unix

package cli_test

import (
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestTermDrainsWhatHasBegun(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.receiver.holdCalls()
	d := p.start()
	p.sql("INSERT INTO orders (status) VALUES (1)")
	check(t, p.receiver.await(1, anyCall))
	d.signal(syscall.SIGTERM)
	d.await("msg=\"stopping", "shutdown_timeout=30s")
	p.receiver.release()
	if state := d.wait(); state.ExitCode() != 0 {
		t.Errorf("a drained daemon ended with %s, want code 0", state)
	}
	if last := d.seen[len(d.seen)-1]; !strings.Contains(last, "msg=stopped done=1") {
		t.Errorf("the last line is %q, want the delivery done", last)
	}
	// Nothing is repeated by the next one: the checkpoint is behind the row.
	if out := p.must("status"); !strings.Contains(out, "0 rows") {
		t.Errorf("after draining the status is\n%s", out)
	}
}

func TestSecondTermStopsAtOnce(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.receiver.holdCalls()
	d := p.start()
	p.sql("INSERT INTO orders (status) VALUES (1)")
	check(t, p.receiver.await(1, anyCall))
	d.signal(syscall.SIGTERM)
	d.await("msg=\"stopping")
	d.signal(syscall.SIGTERM)
	// The call is still held, so only the second signal can have ended it.
	status, ok := d.wait().Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() || status.Signal() != syscall.SIGTERM {
		t.Fatalf("the daemon ended with %v, want it killed by the second signal", status)
	}
	p.receiver.release()
	first := p.receiver.received()[0].key
	// The row is not lost: the next daemon sends it with the same key.
	d = p.start()
	check(t, p.receiver.await(2, func(c call) bool { return c.key == first }))
	d.signal(syscall.SIGINT)
	if state := d.wait(); state.ExitCode() != 0 {
		t.Errorf("ended with %s, want code 0", state)
	}
}

func TestHangupReloads(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	d := p.start()
	p.configure(strings.ReplaceAll(observerTables, "/hook", "/moved"))
	d.signal(syscall.SIGHUP)
	d.await("configuration reloaded")
	p.sql("INSERT INTO orders (status) VALUES (1)")
	check(t, p.receiver.await(1, func(c call) bool { return c.path == "/moved" }))

	p.configure(observerTables + "\nnonsense = 1\n")
	d.signal(syscall.SIGHUP)
	line := d.await("was not reloaded", "signal=SIGHUP")
	if !strings.Contains(line, "nonsense") {
		t.Errorf("the log does not say what is wrong: %s", line)
	}
	p.sql("INSERT INTO orders (status) VALUES (2)")
	check(t, p.receiver.await(2, func(c call) bool { return c.path == "/moved" }))
	if n := len(p.receiver.received()); n != 2 {
		t.Errorf("%d calls, want 2: the refused file ran", n)
	}
	d.signal(syscall.SIGTERM)
	if state := d.wait(); state.ExitCode() != 0 {
		t.Errorf("ended with %s, want code 0", state)
	}
}

// Ctrl-C during retry-all lets the attempt under way end and stops there.
func TestInterruptedRetryAllKeepsTheRest(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.keep("00000000-0000-4000-8000-000000000001", unchanged)
	p.keep("00000000-0000-4000-8000-000000000002", unchanged)
	p.receiver.holdCalls()
	cmd := p.launch("dlq", "retry-all")
	check(t, p.receiver.await(1, anyCall))
	cmd.signal(syscall.SIGINT)
	cmd.await("stopping after the one that runs")
	p.receiver.release()
	if code := cmd.wait().ExitCode(); code != 1 {
		t.Errorf("ended with code %d, want 1", code)
	}
	if out := cmd.stdout.String(); !strings.Contains(out, "2 dead letters: 1 delivered, 0 failed and kept, 0 skipped, 1 not tried") {
		t.Errorf("printed\n%s", out)
	}
	if out := p.must("dlq", "stats"); !strings.Contains(out, "1 dead letter,") {
		t.Errorf("left\n%s", out)
	}
}

// Ctrl-C ends what is done to many between two of them, and says how far it came.
func TestInterruptedRemoveKeepsTheRest(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.keep("00000000-0000-4000-8000-000000000001", unchanged)
	kept := p.keep("00000000-0000-4000-8000-000000000002", unchanged)
	cmd := p.launch("dlq", "remove", "--all", "--yes", "--rate", "0.001")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !strings.Contains(p.must("dlq", "stats"), "1 dead letter,"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the first one was never removed")
		}
	}
	cmd.signal(syscall.SIGINT)
	cmd.await("stopping")
	if code := cmd.wait().ExitCode(); code != 1 {
		t.Errorf("ended with code %d, want 1", code)
	}
	if out := cmd.stdout.String(); out != "2 dead letters: 1 removed, 0 skipped, 1 left as they were\n" {
		t.Errorf("printed %q", out)
	}
	p.must("dlq", "show", kept)
}

// What reads the demo may stop reading, as head does, and a terminal may be
// closed: it ends and removes its directory all the same.
func TestDemoCleansUpWhenItsReaderGoes(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(cmd *exec.Cmd, out io.Closer) error{
		"pipe closed":     func(_ *exec.Cmd, out io.Closer) error { return out.Close() },
		"terminal closed": func(cmd *exec.Cmd, _ io.Closer) error { return cmd.Process.Signal(syscall.SIGHUP) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			cmd := exec.CommandContext(t.Context(), "fraiseql-observer", "demo", "--duration", "1h")
			cmd.Env = append(os.Environ(), "GORACE="+quickExit, "TMPDIR="+dir)
			out, err := cmd.StdoutPipe()
			check(t, err)
			check(t, cmd.Start())
			if _, err := io.ReadFull(out, make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
			check(t, leave(cmd, out))
			if err := cmd.Wait(); err != nil {
				t.Errorf("ended with %v, want success", err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
				t.Errorf("left behind: %v (%v)", left, err)
			}
		})
	}
}

// Ctrl-C ends the demo with its summary, and its schemas are gone.
func TestInterruptedDemoDropsItsSchemas(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	cmd := exec.CommandContext(t.Context(), "fraiseql-observer", "demo", "--duration", "1h", "--database", url)
	cmd.Env = append(os.Environ(), "GORACE="+quickExit)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, cmd.Start())
	if _, err := io.ReadFull(out, make([]byte, 400)); err != nil {
		t.Fatal(err)
	}
	conn := testenv.Connect(t, url)
	const schemas = "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'fraiseql_demo_%'"
	if n := testenv.Value[int](t, conn, schemas); n != 2 {
		t.Errorf("%d schemas while it runs, want 2", n)
	}
	check(t, cmd.Process.Signal(syscall.SIGINT))
	rest, err := io.ReadAll(out)
	check(t, err)
	if err := cmd.Wait(); err != nil || !strings.Contains(string(rest), "\nlost             0\n") {
		t.Errorf("ended with %v:\n%s", err, rest)
	}
	if n := testenv.Value[int](t, conn, schemas); n != 0 {
		t.Errorf("%d schemas are left", n)
	}
}
