//go:build unix

package e2e

import (
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// TestWorkersShareAStore runs a daemon and a process that only works, on one
// store. They share the work, nothing runs twice, and when one of them is killed
// the other one takes over what it had.
func TestWorkersShareAStore(t *testing.T) {
	t.Parallel()
	onEach(t, workersShareAStore)
}

const (
	daemonRun, workerRun = 1, 2
	// workerPlaces is how many of the worker_concurrency of 4 may be at one
	// endpoint.
	workerPlaces = 3
)

func workersShareAStore(t *testing.T, on flavour) {
	t.Helper()
	const shared = 240
	held, release := make(chan receipt, 2*workerPlaces), make(chan struct{})
	stored, holds := make(chan struct{}), make(chan struct{})
	var recv *receiver
	recv = newReceiver(t, func(r receipt) int {
		if r.run == workerRun && isClosed(holds) {
			held <- r
			recv.hold(release)
			return http.StatusOK
		}
		recv.hold(stored)
		<-time.After(25 * time.Millisecond) // long enough that one alone cannot do all
		return http.StatusOK
	})
	s := on.newSite(t, "")
	s.queue = "worker_concurrency = 4\npoll_interval_ms = 50\n"
	s.configure(webhook("shared", recv.url(), `mode = "queued"`, `timeout = "5m"`))
	shop := newShop(s)
	s.start()
	worker, exited := s.worker()
	for item := range int64(shared) {
		shop.put(item + 1)
	}
	slowly(t, "all are stored", func() bool { return s.waiting() == shared })
	close(stored)
	s.arrived(shop, recv)
	by := map[int]int{}
	for _, r := range recv.receipts() {
		by[r.run]++
	}
	t.Logf("%d by the daemon, %d by the worker", by[daemonRun], by[workerRun])
	if len(recv.receipts()) != shared || by[daemonRun] < shared/4 || by[workerRun] < shared/4 {
		t.Errorf("%d requests for %d changes, of which %v by each process; want each once, and a quarter by each at least",
			len(recv.receipts()), shared, by)
	}

	close(holds)
	for item := range int64(shared / 4) {
		shop.put(item + 1)
	}
	var lost []receipt
	eventually(t, "the worker holds what it may", func() bool {
		for len(held) > 0 {
			lost = append(lost, <-held)
		}
		return len(lost) == workerPlaces
	})
	if err := worker.Process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-exited
	close(release)
	s.takesOver(shop, recv, lost)
}

// worker starts a process that only works.
func (s *site) worker() (cmd *exec.Cmd, exited chan struct{}) {
	s.t.Helper()
	cmd, exited = s.spawn("worker.log", binary, nil, "run", "--worker-only")
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended
		<-exited
		if s.t.Failed() {
			s.t.Logf("the log of the worker:\n%s", tail(s.read("worker.log"), 30))
		}
	})
	eventually(s.t, "the worker runs", func() bool {
		if isClosed(exited) {
			s.t.Fatalf("the worker ended:\n%s", s.read("worker.log"))
		}
		return strings.Contains(s.read("worker.log"), "running the worker only")
	})
	return cmd, exited
}

// takesOver checks that the daemon repeats what the worker was killed with, and
// nothing else.
func (s *site) takesOver(shop *shop, recv *receiver, lost []receipt) {
	s.t.Helper()
	keys := map[string]bool{}
	for _, r := range lost {
		keys[r.key] = true
	}
	changes := len(shop.all())
	slowly(s.t, "the daemon takes over", func() bool {
		states := s.states()
		return states[observer.Done] == changes && len(recv.receipts()) == changes+len(lost)
	})
	s.stop()
	oracle{shop.all(), recv.receipts()}.check(s.t)
	for _, d := range s.stored("") {
		want := []bool{false}
		if keys[d.Key] {
			want = []bool{true, false}
		}
		var got []bool
		for _, a := range d.Attempts {
			got = append(got, isLost(a))
		}
		if !slices.Equal(got, want) {
			s.t.Errorf("%s has attempts %+v; was it held when its process died: %v", d.Key, d.Attempts, keys[d.Key])
		}
	}
	for _, r := range recv.receipts() {
		if r.attempt > 1 && (!keys[r.key] || r.run != daemonRun) {
			s.t.Errorf("a repetition: %+v", r)
		}
	}
}
