package testenv

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	mathrand "math/rand/v2"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// redisWorkspace is the temporary directory in which this process keeps its
// Redis servers, each in a folder with redis.conf, pid, log and data. A watchdog
// ends them and removes it when this process is no more, however it ended.
type redisWorkspace struct {
	binary   string
	dir      string
	watchdog *watchdog
}

// endByPID is what the watchdog of such a workspace does.
const endByPID = `
for file in "$1"/*/pid; do
	[ -f "$file" ] && kill -KILL "$(cat "$file")"
done
rm -rf "$1"`

// findRedis returns the path of a server binary, and installs one where that is
// possible.
func findRedis(ctx context.Context) (string, error) {
	if !canStartServers {
		return "", errors.New("no Redis for this test: its server can only be started on a Unix system; set TEST_REDIS_URL")
	}
	if path := os.Getenv("TEST_REDIS_SERVER"); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			return "", fmt.Errorf("no Redis for this test: TEST_REDIS_SERVER is %s: %w", path, err)
		}
		return path, nil
	}
	if path := installedRedis(ctx); path != "" {
		return path, nil
	}
	path, err := installDebian(ctx, "redis-server", installedRedis)
	if err != nil {
		return "", fmt.Errorf("no Redis for this test: set TEST_REDIS_URL, or install redis-server, which is not on the PATH; Debian's package: %w", err)
	}
	return path, nil
}

func installedRedis(context.Context) string {
	for _, name := range []string{"redis-server", "valkey-server"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func newRedisWorkspace(ctx context.Context, binary string) (*redisWorkspace, error) {
	dir, err := os.MkdirTemp("", "observer-redis-")
	if err != nil {
		return nil, fmt.Errorf("make a place for Redis: %w", err)
	}
	w := &redisWorkspace{binary: binary, dir: dir}
	if w.watchdog, err = watch(ctx, endByPID, dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return w, nil
}

// remove removes the directory. The servers in it must have ended.
func (w *redisWorkspace) remove() error {
	return errors.Join(os.RemoveAll(w.dir), w.watchdog.dismiss())
}

// redisNode is one server with its folder. It may be running or not.
type redisNode struct {
	workspace *redisWorkspace
	dir       string
	password  string
	settings  map[string]string
	port      int

	mu     sync.Mutex
	server *process // nil while it is stopped
	paused bool
}

// newNode starts a server on a free port.
func (w *redisWorkspace) newNode(ctx context.Context, settings map[string]string) (*redisNode, error) {
	dir, err := os.MkdirTemp(w.dir, "server-")
	if err != nil {
		return nil, err
	}
	n := &redisNode{workspace: w, dir: dir, password: rand.Text(), settings: settings}
	for range 20 {
		n.port = 20000 + mathrand.IntN(12000) // as for PostgreSQL, see startSomewhere
		if !free(ctx, n.port) {
			continue
		}
		if err = n.start(ctx); !errors.Is(err, errPortTaken) {
			if err != nil {
				err = errors.Join(err, n.remove())
			}
			return n, err
		}
	}
	return nil, errors.Join(errors.New("found no free port for Redis"), n.remove())
}

// configure writes redis.conf, in which the last of two equal lines counts.
func (n *redisNode) configure() error {
	all := map[string]string{
		"bind":       "127.0.0.1",
		"databases":  "1024",
		"save":       "",
		"appendonly": "no",
	}
	maps.Copy(all, n.settings)
	maps.Copy(all, map[string]string{
		"port":        strconv.Itoa(n.port),
		"requirepass": n.password,
		"dir":         n.data(),
		"pidfile":     n.pidFile(),
		"logfile":     "",
		"daemonize":   "no",
	})
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		value := all[name]
		if value == "" {
			value = `""`
		}
		fmt.Fprintf(&b, "%s %s\n", name, value)
	}
	return errors.Join(os.MkdirAll(n.data(), 0o700), os.WriteFile(n.confFile(), []byte(b.String()), 0o600))
}

func (n *redisNode) data() string     { return filepath.Join(n.dir, "data") }
func (n *redisNode) confFile() string { return filepath.Join(n.dir, "redis.conf") }
func (n *redisNode) pidFile() string  { return filepath.Join(n.dir, "pid") }
func (n *redisNode) logFile() string  { return filepath.Join(n.dir, "log") }

func (n *redisNode) url() string {
	u := url.URL{Scheme: "redis", User: url.UserPassword("", n.password), Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(n.port)), Path: "/0"}
	return u.String()
}

// log returns what the server said from a position on.
func (n *redisNode) log(from int) string {
	content, err := os.ReadFile(n.logFile())
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(content[min(from, len(content)):])
}

// start starts the server and returns when it has loaded its data and answers.
func (n *redisNode) start(ctx context.Context) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server != nil {
		return errors.New("the Redis server is running already")
	}
	if err := n.configure(); err != nil {
		return err
	}
	from := len(n.log(0))
	cmd := exec.CommandContext(context.WithoutCancel(ctx), n.workspace.binary, n.confFile())
	cmd.Dir = n.dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C"}
	server, err := spawn("Redis", cmd, n.logFile())
	if err != nil {
		return fmt.Errorf("start Redis: %w", err)
	}
	n.server, n.paused = server, false
	deadline := time.Now().Add(patience)
	for {
		answer, err := redisDo(ctx, n.url(), "PING")
		if answer == "PONG" {
			return nil
		}
		if server.gone(5 * time.Millisecond) {
			n.server = nil
			if said := n.log(from); !strings.Contains(said, "Address already in use") {
				return fmt.Errorf("the Redis server ended while it started:\n%s", tail(said))
			}
			return errPortTaken
		}
		if time.Now().After(deadline) || ctx.Err() != nil {
			return fmt.Errorf("the Redis server does not answer: %w\n%s", err, tail(n.log(from)))
		}
	}
}

// stop ends the server with SIGKILL, if it runs.
func (n *redisNode) stop() error {
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
func (n *redisNode) suspend(paused bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.server == nil {
		return errors.New("the Redis server is not running")
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

func (n *redisNode) remove() error { return errors.Join(n.stop(), os.RemoveAll(n.dir)) }
