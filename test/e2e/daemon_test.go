//go:build unix

package e2e

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/topology"
)

// site is one installation: a directory with a configuration, a database, a
// state and a log, and at most one running daemon.
type site struct {
	t      *testing.T
	on     flavour
	dir    string
	server string // the URL of its PostgreSQL database
	more   string // more keys of the database, or more databases
	// stateURL is that of a state that is not where it is by default.
	stateURL string
	queue    string // more keys of the job queue
	ttl      string // of the leases
	env      []string
	daemon   *exec.Cmd
	exited   chan struct{}
	starts   int
	runs     int // how many processes were launched, see runOf
}

const sourceName = "shop"

// shortTTL is how long a killed daemon keeps the next one from reading, where a
// test does not say otherwise.
const shortTTL = time.Second

// newSite writes a configuration with the given observers. What stands before
// the first table of the text belongs to the top level.
func newSite(t *testing.T, text string) *site {
	t.Helper()
	return onSQLite.newSite(t, text)
}

func (s *site) begin(text string) *site {
	s.t.Helper()
	s.configure(text)
	s.tidy()
	return s
}

// tidy ends the daemon with the test, and shows its log when that fails.
func (s *site) tidy() {
	t := s.t
	t.Cleanup(func() {
		if s.daemon != nil {
			s.kill()
		}
		if password := s.password(); password != "" && strings.Contains(s.log(), password) {
			t.Error("the log has the password of the database") // Invariant 9
		}
		if t.Failed() {
			t.Logf("the log of the daemon:\n%s", telling(s.log(), 25))
		}
	})
}

func (s *site) configure(text string) {
	s.t.Helper()
	s.write(`
[[databases]]
name = "` + sourceName + `"
url = "` + s.databaseURL() + `"
` + s.more + s.stateText() + `
[network]
allow = ["127.0.0.0/8"]
[leases]
ttl = "` + cmp.Or(s.ttl, shortTTL.String()) + `"
[job_queue]
lease = "5s"
` + s.queue + text)
}

func (s *site) write(text string) {
	s.t.Helper()
	// Written aside and renamed: the daemon watches the file.
	if err := os.WriteFile(s.path("new.toml"), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Rename(s.path("new.toml"), s.config()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }
func (s *site) config() string          { return s.path("fraiseql-observer.toml") }
func (s *site) database() string        { return s.path("shop.db") }
func (s *site) state() string           { return s.path("state.db") }

func (s *site) log() string { return s.read("daemon.log") }

// read gives the text of a file of the site, "" when there is none.
func (s *site) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(s.path(name))
	if err != nil && !os.IsNotExist(err) {
		s.t.Fatal(err)
	}
	return string(text)
}

// start runs the daemon and returns when it says that it is running.
func (s *site) start() {
	s.t.Helper()
	s.launch()
	s.starts++
	eventually(s.t, "the daemon runs", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("the daemon ended with %d:\n%s", s.daemon.ProcessState.ExitCode(), tail(s.log(), 20))
		default:
		}
		return strings.Count(s.log(), "msg=running") >= s.starts
	})
}

func (s *site) launch() {
	s.t.Helper()
	s.launchAs(binary)
}

// launchAs runs one of the two programs as the daemon, with more environment.
func (s *site) launchAs(program string, env ...string) {
	s.t.Helper()
	s.daemon, s.exited = s.spawn("daemon.log", program, env, "run")
}

// spawn runs a command of the program in the background; exited is closed when
// it has ended. Every process has a number in the variable E2E_RUN, counted from
// 1, which a header of a webhook can carry; 0 is that of the commands that end by
// themselves.
func (s *site) spawn(logName, program string, env []string, args ...string) (cmd *exec.Cmd, exited chan struct{}) {
	s.t.Helper()
	log, err := os.OpenFile(s.path(logName), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = log.Close() }() // the child has its own
	s.runs++
	cmd = exec.CommandContext(context.Background(), program, append(args, "--config", s.config())...)
	cmd.Dir, cmd.Env = s.dir, append(append(s.environment(s.runs), env...), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	exited = make(chan struct{})
	go func() {
		_ = cmd.Wait() // the exit code is in ProcessState
		close(exited)
	}()
	return cmd, exited
}

// runPrefix makes a value of the number that stands nowhere else: what comes from
// the environment is taken for a secret and kept out of all texts.
const runPrefix = "process-number-"

func runVariable(run int) string { return "E2E_RUN=" + runPrefix + strconv.Itoa(run) }

func (s *site) environment(run int) []string {
	return append(os.Environ(), runVariable(run))
}

// stop asks the daemon to end and expects that it does so cleanly.
func (s *site) stop() {
	s.t.Helper()
	s.signal(syscall.SIGTERM)
	if code := s.daemon.ProcessState.ExitCode(); code != 0 {
		s.t.Errorf("the daemon ended with %d after SIGTERM:\n%s", code, tail(s.log(), 20))
	}
	s.daemon = nil
}

// kill ends the daemon in the middle of whatever it does.
func (s *site) kill() {
	s.t.Helper()
	s.signal(syscall.SIGKILL)
	s.daemon = nil
}

func (s *site) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.daemon.Process.Signal(sig); err != nil && !strings.Contains(err.Error(), "already finished") {
		s.t.Fatalf("send %s: %v", sig, err)
	}
	select {
	case <-s.exited:
	case <-time.After(patience):
		s.t.Fatalf("the daemon goes on %s after %s:\n%s", patience, sig, tail(s.log(), 20))
	}
}

// command runs another command of the program on this site.
func (s *site) command(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return commandWith(s.t, s.dir, append([]string{runVariable(0)}, s.env...), append(args, "--config", s.config())...)
}

// loaded is the configuration as the program reads it.
func (s *site) loaded() *config.Config {
	s.t.Helper()
	cfg, err := config.Load(s.config(), func(name string) (string, bool) {
		for _, entry := range slices.Backward(s.env) {
			if value, ok := strings.CutPrefix(entry, name+"="); ok {
				return value, true
			}
		}
		if value, ok := strings.CutPrefix(runVariable(0), name+"="); ok {
			return value, true
		}
		return os.LookupEnv(name)
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return cfg
}

// store opens the state for looking, as an operator would beside the daemon.
func (s *site) store(look func(observer.StateStore)) {
	s.t.Helper()
	store, err := topology.OpenStore(s.t.Context(), s.loaded(), true)
	if err != nil {
		s.t.Fatal(err)
	}
	look(store)
	if err := store.Close(); err != nil {
		s.t.Fatal(err)
	}
}

// stored lists the deliveries in a state; "" lists all, finished ones included.
func (s *site) stored(state observer.State) (list []*observer.Delivery) {
	s.t.Helper()
	s.store(func(store observer.StateStore) {
		var err error
		if list, err = store.Deliveries(s.t.Context(), observer.DeliveryFilter{State: state}); err != nil {
			s.t.Fatal(err)
		}
	})
	return list
}

// left lists what is stored and has not succeeded.
func (s *site) left() []*observer.Delivery {
	s.t.Helper()
	return slices.DeleteFunc(s.stored(""), func(d *observer.Delivery) bool { return d.State == observer.Done })
}

// states counts what is stored by state.
func (s *site) states() (states map[observer.State]int) {
	s.t.Helper()
	s.store(func(store observer.StateStore) {
		stats, err := store.DeliveryStats(s.t.Context())
		if err != nil {
			s.t.Fatal(err)
		}
		states = stats.States
	})
	return states
}

// waiting counts what is stored and will go on by itself.
func (s *site) waiting() (n int) {
	s.t.Helper()
	for state, count := range s.states() {
		if !state.Finished() {
			n += count
		}
	}
	return n
}

// checkpoint is the saved one, zero when there is none yet.
func (s *site) checkpoint() (cp observer.Checkpoint) {
	s.t.Helper()
	s.store(func(store observer.StateStore) {
		var err error
		if cp, err = store.LoadCheckpoint(s.t.Context(), sourceName); err != nil && !errors.Is(err, observer.ErrNotFound) {
			s.t.Fatal(err)
		}
	})
	return cp
}

// behind counts the rows of the log after a position.
func (s *site) behind(at observer.Position) int64 {
	s.t.Helper()
	source := topology.NewSource(s.loaded().Databases[0], nil, slog.New(slog.DiscardHandler))
	rows, _, err := source.Backlog(s.t.Context(), at)
	if err != nil {
		s.t.Fatal(err)
	}
	return rows
}

// covered are the ids of the events that the saved checkpoint calls handled.
func (s *site) covered(shop *shop) map[string]bool {
	s.t.Helper()
	cp := s.checkpoint()
	shop.mu.Lock() // nothing is committed between the two looks
	defer shop.mu.Unlock()
	ids := shop.log()
	covered := map[string]bool{}
	for _, id := range ids[:len(ids)-int(s.behind(cp.Position))] {
		covered[id] = true
	}
	for _, id := range cp.Done {
		covered[id] = true
	}
	return covered
}

// telling is the end of what a log says besides what goes as it should, and of all
// that it says.
func telling(log string, lines int) string {
	var odd []string
	for line := range strings.Lines(log) {
		if !strings.Contains(line, "level=INFO") {
			odd = append(odd, line)
		}
	}
	const last = 8
	return tail(strings.Join(odd, ""), lines) + "\n...\n" + tail(log, last)
}

func tail(text string, lines int) string {
	all := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
