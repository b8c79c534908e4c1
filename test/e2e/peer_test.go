//go:build unix

package e2e

import (
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/topology"
)

// peer is one of several daemons of a site.
type peer struct {
	*site

	cmd    *exec.Cmd
	exited chan struct{}
	run    int // the number that its requests carry
	name   string
}

// join starts one more daemon, and returns when it runs.
func (s *site) join() *peer {
	s.t.Helper()
	return s.joinAs(binary)
}

// joinAs runs one of the two programs as the daemon, with more environment.
func (s *site) joinAs(program string, env ...string) *peer {
	s.t.Helper()
	p := &peer{site: s, name: fmt.Sprintf("daemon-%d.log", s.runs+1)}
	p.cmd, p.exited = s.spawn(p.name, program, env, "run")
	p.run = s.runs
	s.t.Cleanup(func() {
		p.send(syscall.SIGKILL)
		<-p.exited
		if s.t.Failed() {
			s.t.Logf("the log of daemon %d:\n%s", p.run, tail(p.log(), 40))
		}
	})
	p.logs("msg=running")
	return p
}

func (p *peer) log() string { return p.read(p.name) }

// logs waits until the log has a line with all of the words.
func (p *peer) logs(words ...string) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("daemon %d logs %q", p.run, words), func() bool {
		if isClosed(p.exited) {
			p.t.Fatalf("daemon %d ended with %d", p.run, p.cmd.ProcessState.ExitCode())
		}
		return p.logged(words...) > 0
	})
}

// logged counts the lines of the log that have all of the words.
func (p *peer) logged(words ...string) (n int) {
	for line := range strings.Lines(p.log()) {
		if !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(line, w) }) {
			n++
		}
	}
	return n
}

func (p *peer) send(sig syscall.Signal) {
	_ = p.cmd.Process.Signal(sig) // it may have ended
}

// leave asks the daemon to end; it is not waited for.
func (p *peer) leave() { p.send(syscall.SIGTERM) }

// left waits for the end that was asked for.
func (p *peer) left() {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("daemon %d ends", p.run), func() bool { return isClosed(p.exited) })
	if code := p.cmd.ProcessState.ExitCode(); code != 0 {
		p.t.Errorf("daemon %d ended with %d:\n%s", p.run, code, tail(p.log(), 10))
	}
}

func (p *peer) crash() {
	p.send(syscall.SIGKILL)
	<-p.exited
}

// pause stops the process, and returns when it stands still. On SQLite that is
// not in the middle of a write: nobody could write to the file until it wakes up.
func (p *peer) pause() {
	p.t.Helper()
	eventually(p.t, "the process stands still outside of a write", func() bool {
		p.stand()
		if p.on == onPostgres || p.writable() {
			return true
		}
		p.wake()
		return false
	})
}

// writable reports whether the file of the state can be written to.
func (p *peer) writable() bool {
	p.t.Helper()
	db, err := sql.Open("sqlite", p.state()+"?_txlock=immediate&_pragma=busy_timeout(100)")
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	tx, err := db.BeginTx(p.t.Context(), nil)
	if err != nil {
		return false
	}
	return tx.Rollback() == nil
}

// stand stops the process where it is.
func (p *peer) stand() {
	p.t.Helper()
	p.send(syscall.SIGSTOP)
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(p.cmd.Process.Pid, &status, syscall.WUNTRACED, nil); err != nil || !status.Stopped() {
		p.t.Fatalf("daemon %d was not stopped: %v", p.run, err)
	}
}

func (p *peer) wake() { p.send(syscall.SIGCONT) }

// reads reports whether it is this daemon that holds a lease.
func (p *peer) reads(l observer.Lease) bool {
	host, _ := os.Hostname()
	return strings.HasPrefix(l.Holder, fmt.Sprintf("%s/%d/", host, p.cmd.Process.Pid))
}

// readers are the leases of the databases that are read now, by name.
func (s *site) readers() map[string]observer.Lease {
	s.t.Helper()
	readers := map[string]observer.Lease{}
	s.store(func(store observer.StateStore) {
		all, err := store.Leases(s.t.Context(), "")
		if err != nil {
			s.t.Fatal(err)
		}
		for _, l := range all {
			name := strings.TrimPrefix(l.Name, topology.DatabaseLease(""))
			if l.Running() && l.Name == topology.DatabaseLease(name) && !strings.Contains(name, "/") {
				readers[name] = l
			}
		}
	})
	return readers
}

// spread waits until each of the peers reads as many databases as said.
func (s *site) spread(want map[*peer][]int) {
	s.t.Helper()
	slowly(s.t, "the databases are spread", func() bool {
		readers := s.readers()
		for p, counts := range want {
			n := 0
			for _, l := range readers {
				if p.reads(l) {
					n++
				}
			}
			if !slices.Contains(counts, n) {
				return false
			}
		}
		return true
	})
}

// from waits for a request of a peer, and gives its time.
func (r *receiver) from(t *testing.T, p *peer, after time.Time) time.Time {
	t.Helper()
	var first time.Time
	eventually(t, fmt.Sprintf("daemon %d delivers", p.run), func() bool {
		for _, one := range r.receipts() {
			if one.run == p.run && one.at.After(after) {
				first = one.at
				return true
			}
		}
		return false
	})
	return first
}
