package testenv

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// cluster is one data directory with its server, which may be running or not.
type cluster struct {
	workspace *workspace
	dir       string
	port      int

	mu     sync.Mutex
	server *process // nil while the server is stopped
}

// errPortTaken says that something else listens on the chosen port.
var errPortTaken = errors.New("the port is taken")

// newCluster copies the template and starts a server on it.
func (w *workspace) newCluster(ctx context.Context, opts Options) (*cluster, error) {
	c, err := w.emptyCluster()
	if err != nil {
		return nil, err
	}
	copied := run(w.command(ctx, "/bin/cp", "-Rp", w.template(), c.data()))
	if err := cmp.Or(copied, c.configure(opts)); err != nil {
		return nil, errors.Join(err, c.remove())
	}
	return c, c.startSomewhere(ctx)
}

func (w *workspace) emptyCluster() (*cluster, error) {
	dir, err := os.MkdirTemp(w.dir, "server-")
	if err != nil {
		return nil, err
	}
	return &cluster{workspace: w, dir: dir}, w.account.own(dir)
}

func (c *cluster) data() string { return filepath.Join(c.dir, "data") }

// configure appends to postgresql.conf, where the last line counts. It is not
// the command line, so that ALTER SYSTEM can still change everything.
func (c *cluster) configure(opts Options) error {
	settings := map[string]string{
		"listen_addresses":           "127.0.0.1",
		"unix_socket_directories":    c.dir,
		"unix_socket_permissions":    "0700",
		"dynamic_shared_memory_type": "mmap", // in the data directory, where it goes with the rest
		"shared_buffers":             "64MB",
		"timezone":                   "UTC",
		"log_timezone":               "UTC",
		"log_line_prefix":            "%m [%p] %d ",
		"log_checkpoints":            "off",
		"fsync":                      onOff(opts.Durable),
		"full_page_writes":           onOff(opts.Durable),
	}
	maps.Copy(settings, opts.Settings)
	return c.set(settings)
}

// set appends settings to the configuration file, which a start reads.
func (c *cluster) set(settings map[string]string) error {
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(&b, "%s = '%s'\n", name, strings.ReplaceAll(settings[name], "'", "''"))
	}
	f, err := os.OpenFile(filepath.Join(c.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString("\n" + b.String())
	return errors.Join(err, f.Close())
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// startSomewhere starts the server on a free port. Another process may take the
// port between the moment it is found free and the moment the server has it.
func (c *cluster) startSomewhere(ctx context.Context) error {
	for range 20 {
		c.port = 20000 + rand.IntN(12000) // below what systems give to outgoing connections, so that it stays free while the server is down
		if !free(ctx, c.port) {
			continue
		}
		if err := c.start(ctx); !errors.Is(err, errPortTaken) {
			if err != nil {
				err = errors.Join(err, c.remove())
			}
			return err
		}
	}
	return errors.Join(errors.New("found no free port for PostgreSQL"), c.remove())
}

func free(ctx context.Context, port int) bool {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	return err == nil && l.Close() == nil
}

// start starts the server and waits until it takes connections.
func (c *cluster) start(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server != nil {
		return errors.New("PostgreSQL is running already")
	}
	from := c.logSize()
	server, err := c.launch(context.WithoutCancel(ctx))
	if err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	c.server = server
	deadline := time.Now().Add(2 * patience)
	for !c.ready() {
		if server.gone(10 * time.Millisecond) {
			c.server = nil
			return startError(c.log(from))
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("PostgreSQL takes no connections: %s", tail(c.log(from)))
		}
	}
	return nil
}

func startError(log string) error {
	if strings.Contains(log, "Address already in use") {
		return errPortTaken
	}
	return fmt.Errorf("PostgreSQL ended while it started:\n%s", tail(log))
}

// ready reads the file in which the server tells what it is doing. What an
// earlier server left there carries another process id.
func (c *cluster) ready() bool {
	lines := c.pidFile()
	return len(lines) > 7 && lines[0] == strconv.Itoa(c.server.pid()) && strings.TrimSpace(lines[7]) == "ready"
}

func (c *cluster) pidFile() []string {
	content, err := os.ReadFile(filepath.Join(c.data(), "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(content), "\n")
}

func (c *cluster) url() string {
	u := url.URL{
		Scheme:   "postgres",
		User:     url.UserPassword("postgres", c.workspace.password),
		Host:     net.JoinHostPort("127.0.0.1", strconv.Itoa(c.port)),
		Path:     "/postgres",
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// stop ends the server the way that how describes, if it runs.
func (c *cluster) stop(how func(*process) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.server == nil {
		return nil
	}
	server := c.server
	c.server = nil
	return how(server)
}

// remove ends the server at once and removes its directory, with the memory
// that a killed server leaves behind.
func (c *cluster) remove() error {
	err := c.stop((*process).quit)
	if lines := c.pidFile(); len(lines) > 6 {
		if _, id, found := strings.Cut(strings.TrimSpace(lines[6]), " "); found {
			dropMemory(strings.TrimSpace(id))
		}
	}
	return errors.Join(err, os.RemoveAll(c.dir))
}

func (c *cluster) logFile() string { return filepath.Join(c.dir, "log") }

// logSize returns the length of the log, 0 where there is none to see.
func (c *cluster) logSize() int64 {
	if c == nil {
		return 0
	}
	info, err := os.Stat(c.logFile())
	if err != nil {
		return 0
	}
	return info.Size()
}

// log returns the log from a position on.
func (c *cluster) log(from int64) string {
	if c == nil {
		return "(the server is not ours: its log is where it was configured to be)"
	}
	content, err := os.ReadFile(c.logFile())
	if err != nil {
		return err.Error()
	}
	return string(content[min(from, int64(len(content))):])
}

// about leaves out what other tests' databases had to say. A message of several
// lines has the prefix only in the first.
func about(log, database string) string {
	var kept []string
	other := false
	for line := range strings.Lines(log) {
		if !strings.HasPrefix(line, "\t") {
			other = strings.Contains(line, "] test_") && !strings.Contains(line, "] "+database+" ")
		}
		if !other {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}
