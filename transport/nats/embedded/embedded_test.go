package embedded

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	client "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/goleak"

	"github.com/fraiseql/observer"
)

// childDir has the test binary start a server on a directory, in place of tests.
const childDir = "EMBEDDED_TEST_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		s, err := Start(Config{StoreDir: dir})
		if err == nil {
			err = s.Close()
		}
		if err != nil {
			_, _ = os.Stderr.WriteString(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func start(t testing.TB, cfg Config) *Server {
	t.Helper()
	cfg.Logger = quiet()
	s, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func end(t testing.TB, s *Server) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func connect(t testing.TB, s *Server) (*client.Conn, jetstream.JetStream) {
	t.Helper()
	nc, err := client.Connect("", client.InProcessServer(s), client.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	return nc, js
}

func makeStream(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	cfg := jetstream.StreamConfig{Name: "x", Subjects: []string{"x"}, AllowAtomicPublish: true}
	if _, err := js.CreateOrUpdateStream(t.Context(), cfg); err != nil {
		t.Fatal(err)
	}
}

func publish(t testing.TB, js jetstream.JetStream) {
	t.Helper()
	if _, err := js.Publish(t.Context(), "x", []byte("one")); err != nil {
		t.Fatal(err)
	}
}

// messages is how many the stream has.
func messages(t testing.TB, js jetstream.JetStream) uint64 {
	t.Helper()
	stream, err := js.Stream(t.Context(), "x")
	if err != nil {
		t.Fatal(err)
	}
	return stream.CachedInfo().State.Msgs
}

func TestTwoConnections(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StoreDir: t.TempDir()})
	defer end(t, s)
	first, js := connect(t, s)
	defer first.Close()
	second, other := connect(t, s)
	defer second.Close()
	makeStream(t, js)
	publish(t, js)
	if n := messages(t, other); n != 1 {
		t.Errorf("the other connection sees %d messages", n)
	}
}

func TestRestartKeepsTheStream(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "new", "store") // made by the server
	for want := uint64(1); want <= 3; want++ {
		s := start(t, Config{StoreDir: dir})
		nc, js := connect(t, s)
		makeStream(t, js)
		publish(t, js)
		if n := messages(t, js); n != want {
			t.Errorf("%d messages, want %d", n, want)
		}
		nc.Close()
		end(t, s)
	}
}

// A directory that is used by a server of this process or of another one is
// refused, and nothing happens to what is in it.
func TestStoreIsOfOneServer(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := start(t, Config{StoreDir: dir})
	nc, js := connect(t, s)
	makeStream(t, js)
	publish(t, js)

	if _, err := Start(Config{StoreDir: dir, Logger: quiet()}); !errors.Is(err, ErrInUse) || !observer.Retryable(err) {
		t.Errorf("in this process: %v, want ErrInUse, which may pass", err)
	}
	if code, said := other(t, dir); code == 0 || !strings.Contains(said, dir+" is in use: another process keeps its stream there") {
		t.Errorf("in another process: code %d, %s", code, said)
	}
	publish(t, js)
	nc.Close()
	end(t, s)

	if code, said := other(t, dir); code != 0 {
		t.Errorf("after the first ended: code %d, %s", code, said)
	}
	s = start(t, Config{StoreDir: dir})
	defer end(t, s)
	nc, js = connect(t, s)
	defer nc.Close()
	if n := messages(t, js); n != 2 {
		t.Errorf("%d messages are left of 2", n)
	}
}

// other runs a server in a process of its own and says how that ended.
func other(t *testing.T, dir string) (code int, stderr string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), childDir+"="+dir)
	var said bytes.Buffer
	cmd.Stderr = &said
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

func TestDirectoriesThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	// The folder of JetStream is a file: as for a directory that cannot be written
	// to, which does not keep root from writing.
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(taken, "jetstream"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ dir, want string }{
		{"", "not named"}, {file, "file"}, {filepath.Join(file, "below"), "not a directory"}, {taken, "store " + taken},
	} {
		_, err := Start(Config{StoreDir: tt.dir, Logger: quiet()})
		if err == nil || observer.Retryable(err) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, want a permanent error with %q", tt.dir, err, tt.want)
		}
	}
	if os.Geteuid() == 0 {
		return // may write everywhere
	}
	closed := filepath.Join(dir, "closed")
	if err := os.Mkdir(closed, 0o500); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(Config{StoreDir: closed, Logger: quiet()}); err == nil || !strings.Contains(err.Error(), closed+" cannot be written to") {
		t.Errorf("a directory without the right to write: %v", err)
	}
}

// A server without a token listens nowhere: nothing answers on any of the
// sockets that a server can have.
func TestItListensNowhere(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StoreDir: t.TempDir()})
	defer end(t, s)
	for name, addr := range map[string]net.Addr{
		"clients": s.server.Addr(), "monitor": addrOf(s.server.MonitorAddr()), "profiling": addrOf(s.server.ProfilerAddr()),
		"routes": addrOf(s.server.ClusterAddr()),
	} {
		if addr != nil {
			t.Errorf("%s: it listens on %s", name, addr)
		}
	}
	if s.server.PortsInfo(time.Millisecond) != nil {
		t.Errorf("it says that it listens: %+v", s.server.PortsInfo(time.Millisecond))
	}
}

// addrOf is a nil interface for a nil pointer.
func addrOf(a *net.TCPAddr) net.Addr {
	if a == nil {
		return nil
	}
	return a
}

// With a token it listens on this machine alone, and takes nobody without it.
func TestListeningTakesAToken(t *testing.T) {
	t.Parallel()
	s := start(t, Config{StoreDir: t.TempDir(), Token: observer.NewSecret("open-sesame")})
	defer end(t, s)
	host, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL(), "nats://"))
	if n, bad := strconv.Atoi(port); err != nil || bad != nil || n == 0 || host != "127.0.0.1" {
		t.Fatalf("it listens on %s", s.URL())
	}
	if _, err := client.Connect(s.URL(), client.NoReconnect()); !errors.Is(err, client.ErrAuthorization) {
		t.Errorf("without the token: %v", err)
	}
	nc, err := client.Connect(s.URL(), client.Token("open-sesame"), client.NoReconnect())
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}

// records collects what is logged.
type records struct {
	slog.Handler
	warnings chan string
}

func (r records) Enabled(context.Context, slog.Level) bool { return true }

func (r records) Handle(_ context.Context, rec slog.Record) error {
	if rec.Level >= slog.LevelWarn {
		rec.Attrs(func(a slog.Attr) bool { r.warnings <- a.Value.String(); return true })
	}
	return nil
}

// A start and an end have nothing to warn of, whatever is free on the disk.
func TestAQuietLife(t *testing.T) {
	t.Parallel()
	said := records{slog.DiscardHandler, make(chan string, 100)}
	s, err := Start(Config{StoreDir: t.TempDir(), Logger: slog.New(said)})
	if err != nil {
		t.Fatal(err)
	}
	nc, js := connect(t, s)
	huge := jetstream.StreamConfig{Name: "huge", Subjects: []string{"huge"}, MaxBytes: 1 << 50}
	if _, err := js.CreateStream(t.Context(), huge); err != nil {
		t.Error(err)
	}
	nc.Close()
	end(t, s)
	close(said.warnings)
	for warning := range said.warnings {
		t.Error(warning)
	}
}
