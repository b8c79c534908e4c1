//go:build unix

package e2e

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fraiseql/observer"
)

// startFails launches the daemon and gives what it says when it ends.
func (s *site) startFails() (text string, code int) {
	s.t.Helper()
	before := len(s.log())
	s.launch()
	<-s.exited
	code = s.daemon.ProcessState.ExitCode()
	s.daemon = nil
	return s.log()[before:], code
}

// TestTroubleAtStart: what keeps the daemon from starting is one clear line
// that names the thing, and no stack trace.
func TestTroubleAtStart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		spoil func(s *site)
		code  int
		says  []string
	}{
		"no database":          {func(s *site) { remove(s.t, s.database()) }, 3, []string{"shop.db", "no such database file"}},
		"no log table":         {func(s *site) { openShop(s).exec(`DROP TABLE tb_entity_change_log`) }, 3, []string{"capture add"}},
		"no state directory":   {func(s *site) { s.moveState("missing/state.db") }, 3, []string{"missing"}},
		"state is a directory": {func(s *site) { mkdir(s.t, s.path("folder")); s.moveState("folder") }, 3, []string{"folder"}},
		"state is no database": {func(s *site) { write(s.t, s.state(), strings.Repeat("not a database\n", 100)) }, 3, []string{"state.db"}},
		"read-only state directory": {func(s *site) {
			if os.Geteuid() == 0 {
				s.t.Skip("root may write anywhere")
			}
			mkdir(s.t, s.path("locked"))
			s.moveState("locked/state.db")
			if err := os.Chmod(s.path("locked"), 0o500); err != nil {
				s.t.Fatal(err)
			}
		}, 3, []string{"locked"}},
		"bad configuration": {func(s *site) { s.configure("[performance]\nmax_concurency = 3\n") }, 2, []string{"max_concurency", "max_concurrency"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, hook("all", "http://127.0.0.1:1"))
			newShop(s)
			c.spoil(s)
			text, code := s.startFails()
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, text)
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q: %s", want, text)
				}
			}
			if strings.Contains(text, "goroutine ") || strings.Count(text, "fraiseql-observer: ") != 1 {
				t.Errorf("not one clear line: %s", text)
			}
		})
	}
}

func (s *site) moveState(to string) {
	s.t.Helper()
	text, err := os.ReadFile(s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	write(s.t, s.config(), strings.Replace(string(text), s.state(), s.path(to), 1))
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, path string) {
	t.Helper()
	list, err := filepath.Glob(path + "*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range list {
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
	}
}

// TestFullDeadLettersSlowIntake: at the cap nothing is dropped. Intake waits and
// says so, and goes on when a person makes room.
func TestFullDeadLettersSlowIntake(t *testing.T) {
	t.Parallel()
	onEach(t, fullDeadLettersSlowIntake)
}

func fullDeadLettersSlowIntake(t *testing.T, on flavour) {
	t.Helper()
	const most, changes = 3, 6
	recv := newReceiver(t, func(receipt) int { return http.StatusUnprocessableEntity })
	s := on.newSite(t, "[dead_letters]\nmax_items = 3\n"+hook("all", recv.url()))
	shop := newShop(s)
	s.start()
	for item := range int64(changes) {
		shop.put(item + 1)
	}
	eventually(t, "it says that the dead letters are full", func() bool {
		return strings.Contains(s.log(), "dead letters are full")
	})
	if n := len(s.stored(observer.Dead)); n != most {
		t.Errorf("%d dead letters, want the cap of %d", n, most)
	}
	if s.behind(s.checkpoint().Position) == 0 {
		t.Error("the checkpoint has passed events that are neither done nor kept")
	}
	removed := map[string]bool{}
	eventually(t, "every failed delivery is kept once there is room", func() bool {
		for _, d := range s.stored(observer.Dead) {
			if len(removed) < changes-most && !removed[d.Key] {
				if _, stderr, code := s.command("dlq", "remove", d.Key); code != 0 {
					t.Fatalf("dlq remove ended with %d: %s", code, stderr)
				}
				removed[d.Key] = true
			}
		}
		return len(removed)+len(s.stored(observer.Dead)) == changes && s.behind(s.checkpoint().Position) == 0
	})
	s.stop()
	if n := len(recv.receipts()); n != changes {
		t.Errorf("%d requests for %d changes: waiting for room must not send again", n, changes)
	}
}

// TestReceiverDown: the receiver is away for the whole first run. What was put
// off arrives after the restart with the key and the body of the first attempt.
func TestReceiverDown(t *testing.T) {
	t.Parallel()
	onEach(t, receiverDown)
}

func receiverDown(t *testing.T, on flavour) {
	t.Helper()
	recv := newReceiver(t, ok)
	up := recv.down()
	s := on.newSite(t, hook("all", recv.url(),
		`retry = { max_attempts = 50, initial_delay_ms = 1000, max_delay_ms = 1000, backoff_strategy = "fixed" }`))
	shop := newShop(s)
	for item := range int64(10) {
		shop.put(item + 1)
	}
	s.start()
	eventually(t, "all are put off", func() bool { return s.waiting() == 10 })
	s.stop()
	bodies := map[string]string{}
	for _, d := range s.stored("") {
		// Queued: by then the receiver had failed too often for a first attempt.
		if d.State != observer.Scheduled && d.State != observer.Queued {
			t.Errorf("%s is %s: %s", d.Key, d.State, d.Error)
		}
		bodies[d.Key] = string(d.Request)
	}
	if len(bodies) != 10 {
		t.Errorf("%d deliveries are stored, want all 10", len(bodies))
	}
	up()
	s.start()
	eventually(t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0 && len(s.left()) == 0
	})
	s.stop()
	o := oracle{shop.all(), recv.receipts()}
	o.check(t)
	for _, r := range o.receipts {
		if request, known := bodies[r.key]; !known || !strings.Contains(request, quoted(r.body)) {
			t.Errorf("%s arrived with another key or body than was stored:\n%s\n%s", r.key, r.body, request)
		}
	}
	if n := len(o.receipts); n != 10 {
		t.Errorf("%d requests arrived, want 10", n)
	}
}

// quoted is a body as it stands in a stored request.
func quoted(body string) string { return strings.ReplaceAll(body, `"`, `\"`) }

// TestReloadRefusesABadFile: a mistake changes nothing, a good file takes
// effect, by signal and by change.
func TestReloadRefusesABadFile(t *testing.T) {
	t.Parallel()
	onEach(t, reloadRefusesABadFile)
}

func reloadRefusesABadFile(t *testing.T, on flavour) {
	t.Helper()
	var last atomic.Value
	recv := newReceiver(t, func(r receipt) int { last.Store(r.path); return http.StatusOK })
	s := on.newSite(t, hook("first", recv.url()))
	shop := newShop(s)
	s.start()
	arrives := func(path string, n int) {
		t.Helper()
		shop.put(1)
		eventually(t, "a call of "+path, func() bool { return recv.count(accepted) == n })
		if last.Load() != path {
			t.Errorf("the call went to %v, want %s", last.Load(), path)
		}
	}
	arrives("/first", 1)
	s.configure(hook("second", recv.url(), `condition = "data.versoin >"`))
	s.hangup()
	eventually(t, "the bad file is refused", func() bool { return strings.Contains(s.log(), "configuration was not reloaded") })
	arrives("/first", 2)
	s.configure(hook("third", recv.url()))
	eventually(t, "the good file is taken", func() bool { return strings.Contains(s.log(), "msg=\"configuration reloaded\"") })
	arrives("/third", 3)
	s.stop()
}

func (s *site) hangup() {
	s.t.Helper()
	if err := s.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		s.t.Fatal(err)
	}
}
