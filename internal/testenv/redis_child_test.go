//go:build unix

package testenv_test

import (
	"strings"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

// TestRedisEndsWithItsProcess kills a test process that has Redis servers.
func TestRedisEndsWithItsProcess(t *testing.T) {
	t.Parallel()
	testenv.PrivateRedis(t, testenv.RedisOptions{}) // or there is nothing to test
	killedWithServers(t, child(t, "TestChildWithRedis", "TESTENV_STAY=1", "TEST_REDIS_URL="))
}

// TestMainEndsRedis: with Main nothing is left when the process ends.
func TestMainEndsRedis(t *testing.T) {
	t.Parallel()
	testenv.PrivateRedis(t, testenv.RedisOptions{})
	endsWithServers(t, child(t, "TestChildWithRedis", "TEST_REDIS_URL="))
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
	withoutServer(t, "TestChildWithoutRedis", "TEST_REDIS_URL=", "TEST_REDIS_SERVER=/nowhere")
}
