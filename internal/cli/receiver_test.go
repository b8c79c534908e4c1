package cli_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

// testContext is the context of what has no test of its own to end it: the
// program under test and the commands of scripts.
func testContext() context.Context { return context.Background() }

func exitCodeOf(err error) int {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit.ExitCode()
	}
	return -1
}

// receiver is a real HTTP server that remembers what it received.
type receiver struct {
	server *httptest.Server

	mu      sync.Mutex
	status  int
	calls   []call
	changed chan struct{} // closed and replaced at every call
	hold    chan struct{} // calls wait for its end; nil = they do not
}

type call struct{ path, key, body string }

func newReceiver() *receiver {
	r := &receiver{status: http.StatusOK, changed: make(chan struct{})}
	r.server = httptest.NewServer(http.HandlerFunc(r.serve))
	return r
}

func (r *receiver) url() string { return r.server.URL }

func (r *receiver) close() {
	r.release()
	r.server.Close()
}

func (r *receiver) serve(w http.ResponseWriter, req *http.Request) {
	body, _ := io.ReadAll(req.Body)
	r.mu.Lock()
	r.calls = append(r.calls, call{path: req.URL.Path, key: req.Header.Get("Idempotency-Key"), body: string(body)})
	close(r.changed)
	r.changed = make(chan struct{})
	status, hold := r.status, r.hold
	r.mu.Unlock()
	if hold != nil {
		<-hold
	}
	w.WriteHeader(status)
	// A receiver may repeat what it got, credentials included.
	_, _ = io.WriteString(w, "you sent "+req.Header.Get("Authorization"))
}

func (r *receiver) answer(status int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.status = status
}

// holdCalls keeps every call from now on open until release.
func (r *receiver) holdCalls() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = make(chan struct{})
}

func (r *receiver) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.hold != nil {
		close(r.hold)
		r.hold = nil
	}
}

func (r *receiver) received() []call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// await waits until at least n calls match.
func (r *receiver) await(n int, match func(call) bool) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		r.mu.Lock()
		got, changed := 0, r.changed
		for _, c := range r.calls {
			if match(c) {
				got++
			}
		}
		r.mu.Unlock()
		if got >= n {
			return nil
		}
		select {
		case <-changed:
		case <-deadline.C:
			return fmt.Errorf("received %d calls, want %d", got, n)
		}
	}
}

func anyCall(call) bool { return true }

type receiverKey struct{}

// receiverCommand is what scripts do with their receiver:
//
//	receiver status CODE    answers with CODE from now on
//	receiver wait N         waits until N calls came
//	receiver count N        fails unless exactly N calls came
//	receiver write FILE     writes path, key and body of every call
func receiverCommand(ts *testscript.TestScript, _ bool, args []string) {
	r, ok := ts.Value(receiverKey{}).(*receiver)
	if !ok || len(args) != 2 {
		ts.Fatalf("usage: receiver status|wait|count|write ARGUMENT")
	}
	if args[0] == "write" {
		var b strings.Builder
		for _, c := range r.received() {
			_, _ = fmt.Fprintf(&b, "%s %s %s\n", c.path, c.key, c.body)
		}
		ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(b.String()), 0o600))
		return
	}
	n, err := strconv.Atoi(args[1])
	ts.Check(err)
	switch args[0] {
	case "status":
		r.answer(n)
	case "wait":
		ts.Check(r.await(n, anyCall))
	case "count":
		if got := len(r.received()); got != n {
			ts.Fatalf("received %d calls, want %d", got, n)
		}
	default:
		ts.Fatalf("unknown: receiver %s", args[0])
	}
}
