package demo

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/transport/nats"
)

// workerArgument has the test binary be a worker.
const workerArgument = "demo-worker"

// work is what such a process does.
func work(file string) int {
	if err := Work(context.Background(), file, os.Stdin, os.Stderr); err != nil {
		_, _ = os.Stderr.WriteString(err.Error() + "\n")
		return 1
	}
	return 0
}

func testWorker(ctx context.Context, file string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, os.Args[0], workerArgument, file)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0")
	return cmd
}

// partitionsIn reads the numbers at the end of a line, or before a comma.
func partitionsIn(t *testing.T, text, line string) []string {
	t.Helper()
	var all []string
	for _, match := range regexp.MustCompile(line+`([\d ]+)`).FindAllStringSubmatch(text, -1) {
		all = append(all, strings.Fields(match[1])...)
	}
	slices.Sort(all)
	return all
}

func TestAKilledWorkerLosesNothing(t *testing.T) {
	t.Parallel()
	var out transcript
	began := time.Now()
	err := Run(t.Context(), Options{Workers: 3, Worker: testWorker, Duration: 2 * time.Second, Rate: 50}, &out)
	text := out.String()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	t.Logf("took %s\n%s", time.Since(began), text)
	for _, row := range []string{"lost", "waiting", "disordered"} {
		if n := count(t, text, row); n != 0 {
			t.Errorf("%s is %d, want 0", row, n)
		}
	}
	if n := count(t, text, "committed"); n < 20 {
		t.Errorf("only %d changes committed", n)
	}
	why := "worker 2 had stored every call"
	if n := count(t, text, "repeated"); n > 0 {
		why = strconv.Itoa(n) + " because worker 2 had made the call"
	}
	if !strings.Contains(text, "  "+why) {
		t.Errorf("it does not say that %s", why)
	}
	if all := partitionsIn(t, text, `worker \d \(process \d+\) reads partitions `); len(all) != partitions || len(slices.Compact(all)) != partitions {
		t.Errorf("the workers read %v", all)
	}
	left, taken := partitionsIn(t, text, `worker 2 .* reads partitions `), partitionsIn(t, text, `worker [13] took over partitions `)
	if len(left) == 0 || !slices.Equal(left, taken) {
		t.Errorf("worker 2 left %v, others took over %v", left, taken)
	}
}

// A demo that is interrupted stops its workers in order, and leaves nothing.
func TestDistributedIsInterrupted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"TMPDIR", "TMP", "TEMP"} {
		t.Setenv(name, dir)
	}
	// It says something about real daemons, and nothing about the workers.
	t.Setenv("FRAISEQL_MAX_CONCURRENCY", "nonsense")
	ctx, interrupt := context.WithCancel(t.Context())
	defer interrupt()
	out := transcript{seen: func(piece string) {
		if strings.Contains(piece, "reads partitions") {
			interrupt()
		}
	}}
	if err := Run(ctx, Options{Workers: 2, Worker: testWorker, Duration: time.Hour}, &out); err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if text := out.String(); strings.Contains(text, "killed;") || count(t, text, "lost") != 0 || count(t, text, "repeated") != 0 {
		t.Errorf("it printed\n%s", text)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left in the temporary directory: %v (%v)", left, err)
	}
}

// What never gets into the change log is missing at the end, and is said to be.
func TestLossIsReportedWithWorkers(t *testing.T) {
	t.Parallel()
	var out transcript
	opts := Options{Workers: 2, Worker: testWorker, Duration: time.Second, Rate: 50, drain: 300 * time.Millisecond, tamper: dropInsertTrigger}
	err := Run(t.Context(), opts, &out)
	if !errors.Is(err, ErrLost) || count(t, out.String(), "lost") == 0 {
		t.Errorf("error is %v, want ErrLost\n%s", err, out.String())
	}
}

// A worker that cannot start ends the demo, which says what it said.
func TestAWorkerThatEndsIsAnError(t *testing.T) {
	t.Parallel()
	var out transcript
	err := Run(t.Context(), Options{Workers: 2, Duration: time.Hour, Worker: func(ctx context.Context, _ string) *exec.Cmd {
		return testWorker(ctx, "no-such-file.toml")
	}}, &out)
	if err == nil || !strings.Contains(err.Error(), "of the demo ended") || !strings.Contains(out.String(), "no-such-file.toml") {
		t.Errorf("error is %v, printed\n%s", err, out.String())
	}
}

func TestWorkersAreChecked(t *testing.T) {
	t.Parallel()
	for _, n := range []int{-1, 1, 10} {
		if err := Run(t.Context(), Options{Workers: n}, &transcript{}); err == nil || !strings.Contains(err.Error(), "workers") {
			t.Errorf("%d workers: error is %v", n, err)
		}
	}
}

// What the death of a worker explains, and what it does not.
func TestRepeatsAreExplained(t *testing.T) {
	t.Parallel()
	killed := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return killed.Add(time.Duration(seconds) * time.Second) }
	const order = 7
	own := nats.Partition("Order", "7", partitions)
	died := outage{worker: 2, at: killed, partitions: []int{own}}
	for name, tt := range map[string]struct {
		o            outage
		first, again acceptance
		want         bool
	}{
		"after its worker died":    {died, acceptance{at(-1), "k"}, acceptance{at(4), "k"}, true},
		"under another key":        {died, acceptance{at(-1), "k"}, acceptance{at(4), "l"}, false},
		"before it died":           {died, acceptance{at(-2), "k"}, acceptance{at(-1), "k"}, false},
		"by those who live":        {died, acceptance{at(5), "k"}, acceptance{at(6), "k"}, false},
		"nobody died":              {outage{}, acceptance{at(-1), "k"}, acceptance{at(4), "k"}, false},
		"of another one's changes": {outage{worker: 2, at: killed, partitions: []int{own + 1}}, acceptance{at(-1), "k"}, acceptance{at(4), "k"}, false},
	} {
		l := newLedger()
		c := change{order: order, version: 3, op: observer.Insert}
		l.committing([]change{c})
		for _, a := range []acceptance{tt.first, tt.again} {
			l.receive(receipt{duty: duty{everyChange, c.op, c.version}, key: a.key, at: a.at}, func(int) int { return 204 })
		}
		l.explain(tt.o)
		s := l.summary(nil)
		if got := len(s.workers.unexplained) == 0; got != tt.want || s.repeated != 1 {
			t.Errorf("%s: explained is %v, %d repeated: %v", name, got, s.repeated, s.workers.unexplained)
		}
	}
}

// A change that comes after a later one of its order is seen, also when it comes
// once.
func TestDisorderIsSeen(t *testing.T) {
	t.Parallel()
	l := newLedger()
	changes := []change{{order: 1, version: 1, op: observer.Insert}, {order: 1, version: 2, op: observer.Update}, {order: 2, version: 3, op: observer.Insert}}
	l.committing(changes)
	for _, i := range []int{2, 1, 0} {
		l.receive(receipt{duty: duty{everyChange, changes[i].op, changes[i].version}, key: "k"}, func(int) int { return 204 })
	}
	l.explain(outage{})
	s := l.summary(nil)
	if len(s.workers.disorder) != 1 || !strings.Contains(s.workers.disorder[0], "order 1) after version 2") {
		t.Errorf("out of order: %v", s.workers.disorder)
	}
	s.lost = nil // what else is due did not come, and that is not the question
	if err := s.verdict(); !errors.Is(err, ErrUnexplained) {
		t.Errorf("error is %v", err)
	}
}
