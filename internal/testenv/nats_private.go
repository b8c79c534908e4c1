package testenv

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// NATSServer is a NATS server of one test, with JetStream. Its methods may be
// called by several goroutines, those that change it one at a time.
type NATSServer struct {
	node *natsNode
}

// NATSOptions sets what a private NATS server is.
type NATSOptions struct {
	// SyncAlways makes the server write to the disk before it answers.
	SyncAlways bool
	// Settings are further lines of the server's configuration, such as
	// "max_payload: 1000", or the blocks authorization and tls.
	Settings string
	// Conf is a whole configuration, in place of Settings and SyncAlways. What it
	// says about places (listen, store_dir) is left out: a test has its own.
	Conf string
}

// PrivateNATS starts a server for this test alone, in a process of its own, on a
// free loopback port. It is gone when the test ends, and its log is shown when
// the test fails. Its binary is built from the module when there is none on this
// machine yet; the test is skipped where that is not possible, and fails there
// under CI.
func PrivateNATS(t testing.TB, opts NATSOptions) *NATSServer {
	t.Helper()
	w := natsPlace(t)
	for range 20 {
		n := natsNodeOf(t, w, opts)
		err := n.launch(t.Context())
		if err == nil {
			err = n.await(t.Context(), 0)
		}
		if err == nil {
			return &NATSServer{node: n}
		}
		if !errors.Is(err, errPortTaken) {
			t.Fatalf("start a private NATS server: %v", err)
		}
	}
	t.Fatal("found no free port for NATS")
	return nil
}

func natsPlace(t testing.TB) *natsWorkspace {
	t.Helper()
	w, err := shared.natsWorkspace(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	return w
}

func natsNodeOf(t testing.TB, w *natsWorkspace, opts NATSOptions) *natsNode {
	t.Helper()
	n, err := w.newNode(t.Context(), opts.Settings)
	if err != nil {
		t.Fatalf("make a private NATS server: %v", err)
	}
	n.conf += jetStreamOf(opts, n.store())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of NATS on port %d:\n%s", n.port, tail(n.log(0)))
		}
		if err := n.remove(); err != nil {
			t.Errorf("remove NATS: %v", err)
		}
	})
	return n
}

// jetStreamOf is the part of a configuration that has JetStream.
func jetStreamOf(opts NATSOptions, store string) string {
	if opts.Conf != "" {
		conf := regexp.MustCompile(`(?m)^\s*listen:.*$`).ReplaceAllString(opts.Conf, "")
		return regexp.MustCompile(`(?m)^\s*store_dir:.*$`).ReplaceAllString(conf, "store_dir: "+strconv.Quote(store))
	}
	sync := ""
	if opts.SyncAlways {
		sync = ", sync_interval: always"
	}
	return fmt.Sprintf("\njetstream { store_dir: %q, max_file_store: 100GB, max_memory_store: 1GB%s }\n", store, sync)
}

// URL returns the URL of the server, without credentials. It stays the same when
// the server starts again.
func (s *NATSServer) URL() string { return s.node.url() }

// Port returns the TCP port of the server on 127.0.0.1.
func (s *NATSServer) Port() int { return s.node.port }

// Kill ends the server with SIGKILL and returns when it is gone. It may be
// paused, or stopped already.
func (s *NATSServer) Kill(t testing.TB) {
	t.Helper()
	if err := s.node.stop(); err != nil {
		t.Fatal(err)
	}
}

// Restart kills the server, if it runs, and starts it with what it has stored. It
// returns when the server answers.
func (s *NATSServer) Restart(t testing.TB) {
	t.Helper()
	s.Kill(t)
	from := len(s.node.log(0))
	if err := errors.Join(s.node.launch(t.Context()), s.node.await(t.Context(), from)); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the server with SIGSTOP: connections stay open, new ones are
// accepted by the kernel, and nothing is answered until Continue.
func (s *NATSServer) Pause(t testing.TB) {
	t.Helper()
	if err := s.node.suspend(true); err != nil {
		t.Fatal(err)
	}
}

// Continue lets a paused server go on.
func (s *NATSServer) Continue(t testing.TB) {
	t.Helper()
	if err := s.node.suspend(false); err != nil {
		t.Fatal(err)
	}
}

// CopyStore copies what the server has stored to a folder that lives as long as
// the test. The server stands still meanwhile, if it runs.
func (s *NATSServer) CopyStore(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	if s.node.suspend(true) == nil { // else it does not run
		defer s.Continue(t)
	}
	if err := os.CopyFS(dir, os.DirFS(s.node.store())); err != nil {
		t.Fatal(err)
	}
	return dir
}

// RestoreStore kills the server, puts back what [NATSServer.CopyStore] copied, and
// starts it again.
func (s *NATSServer) RestoreStore(t testing.TB, dir string) {
	t.Helper()
	s.Kill(t)
	if err := errors.Join(os.RemoveAll(s.node.store()), os.CopyFS(s.node.store(), os.DirFS(dir))); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
}

// Log returns what the server has said so far.
func (s *NATSServer) Log() string { return s.node.log(0) }

// NATSNodes is a cluster of NATS servers of one test.
type NATSNodes []*NATSServer

// NATSCluster starts a cluster of servers as [PrivateNATS] starts one. It returns
// when they have found each other and elected who leads them.
func NATSCluster(t testing.TB, size int, opts NATSOptions) NATSNodes {
	t.Helper()
	w := natsPlace(t)
	for range 5 {
		nodes, err := tryNATSCluster(t, w, size, opts)
		if err == nil {
			return nodes
		}
		if !errors.Is(err, errPortTaken) {
			t.Fatalf("start a NATS cluster: %v", err)
		}
	}
	t.Fatal("found no free ports for a NATS cluster")
	return nil
}

func tryNATSCluster(t testing.TB, w *natsWorkspace, size int, opts NATSOptions) (NATSNodes, error) {
	t.Helper()
	nodes := make(NATSNodes, size)
	var routes []string
	for i := range nodes {
		nodes[i] = &NATSServer{node: natsNodeOf(t, w, opts)}
		routes = append(routes, fmt.Sprintf("\"nats://127.0.0.1:%d\"", nodes[i].node.route))
	}
	var errs []error
	for _, s := range nodes {
		s.node.cluster = fmt.Sprintf("cluster { name: test, listen: \"127.0.0.1:%d\", routes: [%s] }", s.node.route, strings.Join(routes, ", "))
		errs = append(errs, s.node.launch(t.Context()))
	}
	err := errors.Join(append(errs, nodes.await(t.Context()))...)
	if err != nil {
		for _, s := range nodes {
			err = errors.Join(err, s.node.stop())
		}
	}
	return nodes, err
}

func (c NATSNodes) await(ctx context.Context) error {
	var errs []error
	for _, s := range c {
		errs = append(errs, s.node.await(ctx, 0))
	}
	return errors.Join(errs...)
}

// URL has the URLs of all servers, separated by commas.
func (c NATSNodes) URL() string {
	var urls []string
	for _, s := range c {
		urls = append(urls, s.URL())
	}
	return strings.Join(urls, ",")
}
