//go:build unix

package testenv_test

import (
	"bufio"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func (s serverOf) redisGone(t *testing.T) bool {
	t.Helper()
	u, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", u.Host)
	if err == nil {
		_ = conn.Close()
		return false
	}
	_, err = os.Stat(filepath.Dir(filepath.Dir(s.data)))
	return os.IsNotExist(err)
}

// TestRedisEndsWithItsProcess kills a test process that has Redis servers.
func TestRedisEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	testenv.PrivateRedis(t, testenv.RedisOptions{}) // or there is nothing to test
	cmd := child(t, "TestChildWithRedis", "TESTENV_STAY=1", "TEST_REDIS_URL=")
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var output strings.Builder
	for lines := bufio.NewScanner(stdout); lines.Scan() && lines.Text() != "ready"; {
		output.WriteString(lines.Text() + "\n")
	}
	servers := serversIn(output.String())
	if len(servers) != 2 || servers[0].redisGone(t) || servers[1].redisGone(t) {
		t.Fatalf("the child has not two servers:\n%s", output.String())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // it was killed
	for _, server := range servers {
		eventually(t, "the server and its files are gone", func() bool { return server.redisGone(t) })
	}
}

// TestMainEndsRedis: with Main nothing is left when the process ends.
func TestMainEndsRedis(t *testing.T) {
	t.Parallel()
	testenv.PrivateRedis(t, testenv.RedisOptions{})
	out, err := child(t, "TestChildWithRedis", "TEST_REDIS_URL=").CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	servers := serversIn(string(out))
	if len(servers) != 2 {
		t.Fatalf("the child had %d servers:\n%s", len(servers), out)
	}
	for _, server := range servers {
		if !server.redisGone(t) {
			t.Errorf("%s is still there", server.data)
		}
	}
}

// TestGivenRedisIsUsed runs a child against a server that TEST_REDIS_URL names.
func TestGivenRedisIsUsed(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{Settings: map[string]string{"databases": "16"}})
	out, err := child(t, "TestRedisDatabasesAreApart", "TEST_REDIS_SERVER=/nowhere", "TEST_REDIS_URL="+server.URL()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestRedisDatabasesAreApart") {
		t.Errorf("%v\n%s", err, out)
	}
	if got := server.Command(t, "INFO", "commandstats").(string); !strings.Contains(got, "cmdstat_flushdb:calls=2") {
		t.Errorf("the child did not use it:\n%s", got)
	}
	if got := server.Command(t, "DBSIZE"); got != int64(0) {
		t.Errorf("%v notes were left on the server", got)
	}
}

func TestChildWithoutRedis(t *testing.T) {
	t.Parallel()
	onlyAsChild(t)
	testenv.Redis(t)
}

// TestWithoutRedis: a developer without a server sees a skip and why, CI a
// failure.
func TestWithoutRedis(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, ci, want string }{
		{"developer", "", "--- SKIP: TestChildWithoutRedis"},
		{"ci", "true", "--- FAIL: TestChildWithoutRedis"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out, err := child(t, "TestChildWithoutRedis", "CI="+c.ci, "TEST_REDIS_URL=", "TEST_REDIS_SERVER=/nowhere").CombinedOutput()
			if failed := err != nil; failed != (c.ci != "") {
				t.Errorf("exit: %v", err)
			}
			if !strings.Contains(string(out), c.want) || !strings.Contains(string(out), "TEST_REDIS_SERVER is /nowhere") {
				t.Errorf("output lacks %q or the reason:\n%s", c.want, out)
			}
		})
	}
}
