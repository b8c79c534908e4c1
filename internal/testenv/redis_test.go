//go:build unix

package testenv_test

import (
	"bufio"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestRedisDatabasesAreApart(t *testing.T) {
	t.Parallel()
	first, second := testenv.Redis(t), testenv.Redis(t)
	if first == second {
		t.Fatalf("both have %s", first)
	}
	testenv.RedisCommand(t, first, "SET", "k", "of the first")
	if got := testenv.RedisCommand(t, second, "GET", "k"); got != nil {
		t.Errorf("the second database has %v", got)
	}
	if got := testenv.RedisCommand(t, first, "GET", "k"); got != "of the first" {
		t.Errorf("the first database has %v", got)
	}
}

func TestRedisDatabaseIsEmptiedAndGivenBack(t *testing.T) { //nolint:tparallel // what follows looks at what the subtest left
	t.Parallel()
	var server string
	t.Run("a test", func(t *testing.T) {
		server = testenv.Redis(t)
		testenv.RedisCommand(t, server, "SET", "k", "v")
	})
	if got := testenv.RedisCommand(t, server, "DBSIZE"); got != int64(0) {
		t.Errorf("%v keys are left", got)
	}
	number := server[strings.LastIndexByte(server, '/')+1:]
	if got := testenv.RedisCommand(t, strings.TrimSuffix(server, number)+"0", "EXISTS", "testenv:database:"+number); got != int64(0) {
		t.Error("the database is still taken")
	}
}

func TestRedisDatabaseOfSomebodyElseIsLeftAlone(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{Settings: map[string]string{"databases": "3"}})
	base := strings.TrimSuffix(server.URL(), "0")
	testenv.RedisCommand(t, base+"1", "SET", "precious", "v")
	for range 3 { // whichever it tries first
		number, err := testenv.ClaimRedis(t.Context(), server.URL())
		if err != nil || number != 2 {
			t.Fatalf("database %d, %v; want 2", number, err)
		}
		if err := testenv.ReleaseRedis(t.Context(), server.URL(), number); err != nil {
			t.Fatal(err)
		}
	}
	if got := testenv.RedisCommand(t, base+"1", "GET", "precious"); got != "v" {
		t.Errorf("what was there is %v now", got)
	}
}

func TestPrivateRedisKeepsWhatItWasToldTo(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name       string
		persistent bool
		restart    func(*testenv.RedisServer, testing.TB)
		want       any
	}{
		{"memory only", false, (*testenv.RedisServer).Restart, nil},
		{"persistent", true, (*testenv.RedisServer).Restart, "v"},
		{"persistent and emptied", true, (*testenv.RedisServer).RestartEmpty, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateRedis(t, testenv.RedisOptions{Persistent: c.persistent})
			url := server.URL()
			server.Command(t, "SET", "k", "v")
			c.restart(server, t)
			if server.URL() != url {
				t.Errorf("the URL is %s, was %s", server.URL(), url)
			}
			if got := server.Command(t, "GET", "k"); got != c.want {
				t.Errorf("after the restart: %v, want %v", got, c.want)
			}
		})
	}
}

func TestPrivateRedisStops(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	server.Pause(t)
	server.Stop(t) // also a paused one
	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address(server)); err == nil {
		_ = conn.Close()
		t.Error("the stopped server listens")
	}
	server.Restart(t)
	if got := server.Command(t, "PING"); got != "PONG" {
		t.Errorf("answer %v", got)
	}
	if n := strings.Count(server.Log(), "Ready to accept connections"); n != 2 {
		t.Errorf("the log tells of %d starts:\n%s", n, server.Log())
	}
}

func TestPausedRedisAnswersLater(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	server.Command(t, "CONFIG", "SET", "requirepass", "")
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address(server))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	server.Pause(t)
	if _, err := conn.Write([]byte("PING\r\n")); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(conn)
	if line, err := lines.ReadString('\n'); err == nil {
		t.Fatalf("paused, and it answers %q", line)
	}
	server.Resume(t)
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if line, err := lines.ReadString('\n'); err != nil || line != "+PONG\r\n" {
		t.Errorf("after it was resumed: %q, %v", line, err)
	}
}

func TestPrivateRedisIsConfigured(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{Settings: map[string]string{"maxmemory-policy": "allkeys-lru", "save": "60 1"}})
	server.Config(t, "maxmemory", "4mb")
	for range 80 {
		server.Command(t, "SET", "k"+strconv.FormatInt(time.Now().UnixNano(), 10), strings.Repeat("x", 100_000))
	}
	if got := server.Command(t, "DBSIZE").(int64); got >= 80 {
		t.Errorf("%d keys of 100 kB in 4 MB", got)
	}
	if got := server.Command(t, "CONFIG", "GET", "save").([]any)[1]; got != "60 1" {
		t.Errorf("save is %v", got)
	}
}

func TestRedisIsWhereTheVariableSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "server")
	t.Setenv("TEST_REDIS_SERVER", path)
	if got, err := testenv.FindRedis(t.Context()); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("without the file: %q, %v", got, err)
	}
	write(t, path, "")
	if got, err := testenv.FindRedis(t.Context()); err != nil || got != path {
		t.Errorf("%q, %v; want %q", got, err, path)
	}
}

func address(server *testenv.RedisServer) string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(server.Port()))
}

func TestChildWithRedis(t *testing.T) {
	t.Parallel()
	onlyAsChild(t)
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	for _, url := range []string{testenv.Redis(t), server.URL()} {
		data := testenv.RedisCommand(t, url, "CONFIG", "GET", "dir").([]any)[1].(string)
		_, _ = os.Stdout.WriteString("\nserver " + url + " " + data + "\n")
	}
	if os.Getenv("TESTENV_STAY") != "" {
		server.Pause(t) // the end comes to a paused one too
		_, _ = os.Stdout.WriteString("ready\n")
		_, _ = os.Stdin.Read(make([]byte, 1)) // until the other test kills this process
	}
}
