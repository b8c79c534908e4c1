package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
)

// distributed writes a configuration through NATS, with a half left out.
func (p *project) distributed(name, url, half string, sections ...string) {
	p.t.Helper()
	text := "[transport]\ntransport = \"nats\"\n" + half + "\n[transport.nats]\nurl = \"" + url + "\"\npartitions = 4\n" +
		"[state]\nurl = \"sqlite:state.db\"\n[network]\nallow = [\"127.0.0.0/8\"]\n" + strings.Join(sections, "")
	check(p.t, os.WriteFile(p.path(name), []byte(strings.ReplaceAll(text, "$RECEIVER", p.receiver.url())), 0o600))
}

const shopDatabase = "[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n"

// streamJSON is what the tests look at of status --format json.
type streamJSON struct {
	Databases []any
	Daemon    struct{ Processes []string }
	Stream    struct {
		Name, Server, Consumer, Problem string
		Partitions                      []struct {
			Partition  int
			Reader     *struct{ Holder string }
			Checkpoint *struct{ Position string }
			Backlog    *struct {
				Events           int64
				OldestAgeSeconds *int64 `json:"oldest_age_seconds"`
			}
		}
	}
}

func (p *project) streamStatus(code int, file string) streamJSON {
	p.t.Helper()
	r := p.run("status", "--config", file, "--format", "json")
	if r.code != code {
		p.t.Fatalf("status ended with code %d, want %d: %s", r.code, code, r.stderr)
	}
	var s streamJSON
	check(p.t, json.Unmarshal([]byte(r.stdout), &s))
	return s
}

// backlog is the sum of the partitions, -1 when one is unknown.
func (s streamJSON) backlog() (events int64) {
	for _, p := range s.Stream.Partitions {
		if p.Backlog == nil {
			return -1
		}
		events += p.Backlog.Events
	}
	return events
}

// readBy counts the partitions whose reader has this in its name; those without a
// reader when it is "".
func (s streamJSON) readBy(holder string) (partitions int) {
	for _, p := range s.Stream.Partitions {
		switch {
		case p.Reader == nil && holder == "", p.Reader != nil && holder != "" && strings.Contains(p.Reader.Holder, holder):
			partitions++
		}
	}
	return partitions
}

func contains(t *testing.T, text string, all ...string) {
	t.Helper()
	for _, want := range all {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

// eventually asks until done.
func (p *project) eventually(file, what string, done func(streamJSON) bool) streamJSON {
	p.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-tick.C {
		if s := p.streamStatus(0, file); done(s) {
			return s
		}
	}
	p.t.Fatalf("it never came to this: %s; at last\n%s", what, p.run("status", "--config", file).stdout)
	return streamJSON{}
}

func TestStatusOfAStream(t *testing.T) {
	t.Parallel()
	p, url := newProject(t), testenv.NATS(t)
	p.distributed("bridge.toml", url, "run_executors = false", shopDatabase)
	p.distributed("worker.toml", url, "run_bridge = false", observerTables)

	// Before anything ran there is no stream, and nothing is invented about it.
	before := p.streamStatus(3, "worker.toml")
	if before.backlog() != -1 || !strings.Contains(before.Stream.Problem, "is not there") || before.Databases == nil || len(before.Databases) != 0 {
		t.Errorf("before: %+v", before)
	}
	if n := streams(t, url); n != 0 {
		t.Errorf("a look at the status made %d streams", n)
	}

	bridge := p.start("--config", "bridge.toml")
	p.sql("INSERT INTO orders (status) VALUES (1), (2), (3)")
	published := p.eventually("worker.toml", "three events wait", func(s streamJSON) bool { return s.backlog() == 3 })
	if published.readBy("") != 4 {
		t.Errorf("without a worker: %+v", published)
	}
	contains(t, p.must("status", "--config", "worker.toml"),
		"stream fraiseql_events", "server:      "+strings.TrimPrefix(url, "nats://"), "consumer:    fraiseql_observer_worker",
		"read by:     nobody: 4 partitions (0-3)", "checkpoint:  none yet", "backlog:     3 events in ", "the oldest from ")

	worker := p.start("--config", "worker.toml")
	check(t, p.receiver.await(3, anyCall))
	pid := "/" + strconv.Itoa(worker.cmd.Process.Pid)
	after := p.eventually("bridge.toml", "one process reads all, and nothing waits", func(s streamJSON) bool {
		return s.readBy(pid+"/") == 4 && s.backlog() == 0
	})
	if len(after.Daemon.Processes) != 2 || len(after.Databases) != 1 {
		t.Errorf("processes %v, %d databases", after.Daemon.Processes, len(after.Databases))
	}
	contains(t, p.must("status", "--config", "worker.toml", "--detailed"),
		pid+"/", ": 4 partitions (0-3)", "backlog:     0 events\n", "the oldest, of partition ", "partition  read by")
	for _, d := range []*process{worker, bridge} {
		d.signal(os.Interrupt)
		if state := d.wait(); state.ExitCode() != 0 {
			t.Errorf("ended with %s", state)
		}
	}
}

// streams counts the streams of a server.
func streams(t *testing.T, url string) int {
	t.Helper()
	nc, err := client.Connect(url)
	check(t, err)
	defer nc.Close()
	js, err := jetstream.New(nc)
	check(t, err)
	info, err := js.AccountInfo(t.Context())
	check(t, err)
	return info.Streams
}

// A server that cannot be reached makes the backlog unknown, soon; what the state
// says is told all the same.
func TestStatusOfAStreamThatIsAway(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.distributed("away.toml", "nats://127.0.0.1:1", "run_bridge = false", observerTables)
	began := time.Now()
	s := p.streamStatus(3, "away.toml")
	if s.backlog() != -1 || !strings.Contains(s.Stream.Problem, "127.0.0.1:1") || len(s.Stream.Partitions) != 4 {
		t.Errorf("%+v", s)
	}
	if took := time.Since(began); took > patience/2 {
		t.Errorf("it took %s", took)
	}
	if out := p.run("status", "--config", "away.toml").stdout; !strings.Contains(out, "backlog:     unknown\n") {
		t.Errorf("printed\n%s", out)
	}
}

// A server inside the daemon is left alone: its directory is not touched.
func TestStatusOfAnEmbeddedStream(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.distributed("embedded.toml", "embedded", "", shopDatabase, observerTables)
	if s := p.streamStatus(0, "embedded.toml"); s.backlog() != -1 || s.Stream.Server != "embedded" || s.Stream.Problem != "" {
		t.Errorf("before: %+v", s)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "fraiseql-observer.nats")); !os.IsNotExist(err) {
		t.Errorf("a look at the status made the store: %v", err)
	}
	daemon := p.start("--config", "embedded.toml")
	p.sql("INSERT INTO orders (status) VALUES (1)")
	check(t, p.receiver.await(1, anyCall))
	p.eventually("embedded.toml", "a partition has a checkpoint", func(s streamJSON) bool {
		for _, one := range s.Stream.Partitions {
			if one.Checkpoint != nil && one.Reader != nil && len(s.Daemon.Processes) == 1 {
				return true
			}
		}
		return false
	})
	if out := p.must("status", "--config", "embedded.toml"); !strings.Contains(out, "backlog:     unknown: an embedded server is reached by its own process alone") {
		t.Errorf("printed\n%s", out)
	}
	daemon.signal(os.Interrupt)
	daemon.wait()
}
