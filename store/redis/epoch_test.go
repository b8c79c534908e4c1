package redis_test

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/redis"
)

func wantError(t *testing.T, what string, err error, want string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
		t.Errorf("%s: error %v, want one line with %q", what, err, want)
	}
}

// Whatever makes a server forget something is noticed by the next call of an
// epoch, whichever it is, and not by those of a new one.
func TestWhatRedisForgotIsNoticed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		options testenv.RedisOptions
		forget  func(t *testing.T, s *testenv.RedisServer)
		want    string
	}{
		"flushed":         {testenv.RedisOptions{}, func(t *testing.T, s *testenv.RedisServer) { t.Helper(); s.Command(t, "FLUSHDB") }, "was emptied"},
		"restarted empty": {testenv.RedisOptions{}, func(t *testing.T, s *testenv.RedisServer) { t.Helper(); s.RestartEmpty(t) }, "was emptied"},
		// It has everything, and nobody can tell.
		"restarted": {testenv.RedisOptions{Persistent: true}, func(t *testing.T, s *testenv.RedisServer) { t.Helper(); s.Restart(t) }, "was restarted"},
		"evicting": {testenv.RedisOptions{}, func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Config(t, "maxmemory-policy", "allkeys-random")
			s.Config(t, "maxmemory", "2mb")
			for i := range 100 {
				s.Command(t, "SET", fmt.Sprintf("other:%d", i), strings.Repeat("x", 20_000))
			}
		}, ""}, // the marker may go as well
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateRedis(t, tt.options)
			c := newClient(t, server.URL())
			epoch := newEpoch(t, c)
			d := c.Dedup(epoch)
			if err := d.FinishDedup(t.Context(), observer.DedupMark{Key: "k", Keep: time.Hour}); err != nil {
				t.Fatal(err)
			}
			tt.forget(t, server)
			_, err := d.ClaimDedup(t.Context(), observer.DedupClaim{Key: "k", Owner: "a"}, time.Hour)
			wantError(t, "claim", err, "has forgotten what it was told: ")
			wantError(t, "claim", err, tt.want)
			wantError(t, "finish", d.FinishDedup(t.Context(), observer.DedupMark{Key: "k", Keep: time.Hour}), tt.want)
			wantError(t, "check", c.CheckEpoch(t.Context(), epoch), tt.want)
			server.Config(t, "maxmemory", "0")
			if err := c.CheckEpoch(t.Context(), newEpoch(t, c)); err != nil {
				t.Errorf("a new epoch: %v", err)
			}
		})
	}
}

// A server that stores nothing is of no use, even where it has forgotten nothing.
func TestAServerThatRefusesIsNoticed(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	c := newClient(t, server.URL())
	epoch := newEpoch(t, c)
	server.Command(t, "REPLICAOF", "127.0.0.1", "1")
	wantError(t, "read-only", c.CheckEpoch(t.Context(), epoch), "refuses: READONLY")
	server.Command(t, "REPLICAOF", "NO", "ONE")
	server.Config(t, "maxmemory", "1")
	wantError(t, "full", c.CheckEpoch(t.Context(), epoch), "refuses: OOM")
	_, err := c.NewEpoch(t.Context())
	wantError(t, "begin on a full one", err, "OOM")
}

// Nobody waits for longer than the timeouts say, at any stage.
func TestAServerThatIsSilentIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() //nolint:errcheck // a test
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	for name, url := range map[string]string{
		"never spoke": "redis://user:secret@" + listener.Addr().String(), "fell silent": server.URL(),
	} {
		c, err := redis.New(redis.Config{URL: observer.NewSecret(url), ConnectTimeout: time.Second, CommandTimeout: 500 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if url == server.URL() {
			newEpoch(t, c)
			server.Pause(t)
		}
		for range 2 {
			began := time.Now()
			_, err = c.NewEpoch(t.Context())
			wantError(t, name, err, "gave no answer within 500ms")
			if took := time.Since(began); took > 2*time.Second {
				t.Errorf("%s: took %s", name, took)
			}
		}
		if strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", name, err)
		}
		server.Resume(t)
		_ = c.Close()
	}
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	c := newClient(t, server.URL())
	server.Stop(t)
	_, err := c.NewEpoch(t.Context())
	wantError(t, "stopped", err, "cannot be reached")
	server.Restart(t)
	newEpoch(t, c) // connects when it is asked for something
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	_, err = c.NewEpoch(t.Context())
	wantError(t, "closed", err, "closed")
	if _, err := redis.New(redis.Config{URL: observer.NewSecret("http://user:secret@host")}); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("a wrong URL: %v", err)
	}
}
