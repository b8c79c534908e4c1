package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
)

// natsWorkspace is the temporary directory in which this process keeps its NATS
// servers, each in a folder with nats.conf, pid, log and store. A watchdog ends
// them and removes it when this process is no more, however it ended.
type natsWorkspace struct {
	binary   string
	dir      string
	watchdog *watchdog
}

// findNATS returns the path of a server binary: TEST_NATS_SERVER, or one that is
// built from the version in go.mod, once on each machine.
func findNATS(ctx context.Context) (string, error) {
	if !canStartServers {
		return "", errors.New("no NATS for this test: its server can only be started on a Unix system")
	}
	if path := os.Getenv("TEST_NATS_SERVER"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("no NATS for this test: TEST_NATS_SERVER is %s: %w", path, err)
		}
		return path, nil
	}
	path, err := buildNATS(ctx)
	if err != nil {
		return "", fmt.Errorf("no NATS for this test: build its server, or set TEST_NATS_SERVER: %w", err)
	}
	return path, nil
}

// buildNATS builds the server. Test binaries run in parallel: the first builds,
// the others wait and find what it built.
func buildNATS(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		cache = os.TempDir()
	}
	dir := filepath.Join(cache, "fraiseql-observer-testenv")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	lock := flock.New(filepath.Join(dir, "lock"))
	if _, err := lock.TryLockContext(ctx, 100*time.Millisecond); err != nil {
		return "", fmt.Errorf("wait for another test that builds it: %w", err)
	}
	defer func() { report(lock.Unlock()) }()
	path := filepath.Join(dir, "nats-server-"+server.VERSION)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unfinished := path + ".unfinished"
	if err := run(exec.CommandContext(ctx, "go", "build", "-o", unfinished, "github.com/nats-io/nats-server/v2")); err != nil {
		return "", err
	}
	return path, os.Rename(unfinished, path)
}

func newNATSWorkspace(ctx context.Context, binary string) (*natsWorkspace, error) {
	dir, err := os.MkdirTemp("", "observer-nats-")
	if err != nil {
		return nil, fmt.Errorf("make a place for NATS: %w", err)
	}
	w := &natsWorkspace{binary: binary, dir: dir}
	if w.watchdog, err = watch(ctx, endByPID, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// remove removes the directory. The servers in it must have ended.
func (w *natsWorkspace) remove() error {
	return errors.Join(os.RemoveAll(w.dir), w.watchdog.dismiss())
}

// natsNode is one server with its folder. It may be running or not.
type natsNode struct {
	workspace *natsWorkspace
	dir       string
	conf      string // all but the ports and places
	cluster   string // the part of a cluster
	// port is for clients, monitor for questions about its health, and route for
	// the other servers of a cluster.
	port, monitor, route int

	mu     sync.Mutex
	server *process // nil while it is stopped
	paused bool
}

// newNode makes the folder of a server that is not started yet.
func (w *natsWorkspace) newNode(ctx context.Context, conf string) (*natsNode, error) {
	dir, err := os.MkdirTemp(w.dir, "server-")
	if err != nil {
		return nil, err
	}
	n := &natsNode{workspace: w, dir: dir, conf: conf}
	return n, n.choosePorts(ctx)
}

// choosePorts takes ports that nobody has, as for PostgreSQL: see startSomewhere.
func (n *natsNode) choosePorts(ctx context.Context) error {
	for _, port := range []*int{&n.port, &n.monitor, &n.route} {
		*port = 0
		for tries := 0; *port == 0; tries++ {
			if tries == 100 {
				return errors.New("found no free port for NATS")
			}
			if chosen := 20000 + mathrand.IntN(12000); free(ctx, chosen) && chosen != n.port && chosen != n.monitor {
				*port = chosen
			}
		}
	}
	return nil
}

func (n *natsNode) store() string    { return filepath.Join(n.dir, "store") }
func (n *natsNode) confFile() string { return filepath.Join(n.dir, "nats.conf") }
func (n *natsNode) pidFile() string  { return filepath.Join(n.dir, "pid") }
func (n *natsNode) logFile() string  { return filepath.Join(n.dir, "log") }
func (n *natsNode) url() string      { return fmt.Sprintf("nats://127.0.0.1:%d", n.port) }
func (n *natsNode) name() string     { return filepath.Base(n.dir) }

// log returns what the server said from a position on.
func (n *natsNode) log(from int) string {
	content, err := os.ReadFile(n.logFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(content[min(from, len(content)):])
}

func (n *natsNode) configure() error {
	conf := fmt.Sprintf("listen: \"127.0.0.1:%d\"\nhttp: \"127.0.0.1:%d\"\nserver_name: %q\npid_file: %q\n%s\n%s\n",
		n.port, n.monitor, n.name(), n.pidFile(), n.cluster, n.conf)
	return os.WriteFile(n.confFile(), []byte(conf), 0o600)
}

// launch starts the server process.
func (n *natsNode) launch(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return errors.New("the NATS server is running already")
	}
	if err := n.configure(); err != nil {
		return err
	}
	cmd := exec.CommandContext(context.WithoutCancel(ctx), n.workspace.binary, "-c", n.confFile())
	cmd.Dir = n.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	started, err := spawn("NATS", cmd, n.logFile())
	if err != nil {
		return fmt.Errorf("start NATS: %w", err)
	}
	n.server, n.paused = started, false
	return nil
}

// await returns when the server has recovered what it stores and answers.
func (n *natsNode) await(ctx context.Context, from int) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return errors.New("the NATS server is not running")
	}
	for deadline := time.Now().Add(patience); ; {
		err := n.healthy(ctx)
		if err == nil {
			return nil
		}
		if n.server.gone(10 * time.Millisecond) {
			n.server = nil
			if said := n.log(from); !strings.Contains(said, "address already in use") {
				return fmt.Errorf("the NATS server ended while it started:\n%s", tail(said))
			}
			return errPortTaken
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("the NATS server is not ready: %w\n%s", err, tail(n.log(from)))
		}
	}
}

func (n *natsNode) healthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/healthz", n.monitor), nil)
	if err != nil {
		return err
	}
	req.Close = true // nothing of it stays open
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode == http.StatusOK {
		return nil
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1000)) // for people, as far as it came
	return fmt.Errorf("%s: %s", resp.Status, said)
}

// stop ends the server with SIGKILL, if it runs.
func (n *natsNode) stop() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return nil
	}
	var err error
	if n.paused {
		err = n.server.resume()
	}
	err = errors.Join(err, n.server.kill())
	n.server, n.paused = nil, false
	// The number may be given to another process from now on.
	if gone := os.Remove(n.pidFile()); gone != nil && !errors.Is(gone, os.ErrNotExist) {
		err = errors.Join(err, gone)
	}
	return err
}

// suspend pauses or resumes the server.
func (n *natsNode) suspend(paused bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return errors.New("the NATS server is not running")
	}
	if n.paused == paused {
		return nil
	}
	n.paused = paused
	if paused {
		return n.server.pause()
	}
	return n.server.resume()
}

func (n *natsNode) remove() error { return errors.Join(n.stop(), os.RemoveAll(n.dir)) }
