package testenv

import (
	"maps"
	"os"
	"testing"
)

// RedisServer is a Redis server of one test. Its methods may be called by
// several goroutines, those that change it one at a time.
type RedisServer struct {
	node *redisNode
}

// RedisOptions sets what a private Redis is. The zero value keeps everything in
// memory only: what it was told is gone when it is stopped.
type RedisOptions struct {
	// Persistent makes the server write every command to the disk before it
	// answers (appendonly yes, appendfsync always), so that Restart finds all that
	// was answered.
	Persistent bool
	// Settings are lines of redis.conf, by name, such as "maxmemory": "2mb",
	// "save": "60 1" or "maxmemory-policy": "allkeys-lru".
	Settings map[string]string
}

// PrivateRedis starts a server for this test alone, on a free loopback port and
// with a password. It is gone when the test ends, and its log is shown when the
// test fails. The test is skipped where there is no server binary, and fails
// there under CI.
func PrivateRedis(t testing.TB, opts RedisOptions) *RedisServer {
	t.Helper()
	w, err := shared.redisWorkspace(t.Context())
	if err != nil {
		unavailable(t, err)
	}
	settings := map[string]string{}
	if opts.Persistent {
		settings["appendonly"], settings["appendfsync"] = "yes", "always"
	}
	maps.Copy(settings, opts.Settings)
	node, err := w.newNode(t.Context(), settings)
	if err != nil {
		t.Fatalf("start a private Redis: %v", err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("log of Redis on port %d:\n%s", node.port, tail(node.log(0)))
		}
		if err := node.remove(); err != nil {
			t.Errorf("remove Redis: %v", err)
		}
	})
	return &RedisServer{node: node}
}

// URL returns the URL of database 0, with the password. It stays the same when
// the server starts again.
func (r *RedisServer) URL() string { return r.node.url() }

// Port returns the TCP port of the server on 127.0.0.1.
func (r *RedisServer) Port() int { return r.node.port }

// Stop ends the server with SIGKILL and returns when it is gone. It may be
// paused, or stopped already.
func (r *RedisServer) Stop(t testing.TB) {
	t.Helper()
	if err := r.node.stop(); err != nil {
		t.Fatal(err)
	}
}

// Restart stops the server with SIGKILL, if it runs, and starts it with the data
// that it wrote to its disk: all of it when it is Persistent, none by default.
// Settings are those of its options again. It returns when the server answers.
func (r *RedisServer) Restart(t testing.TB) {
	t.Helper()
	r.Stop(t)
	if err := r.node.start(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// RestartEmpty is Restart for a server that has lost its disk.
func (r *RedisServer) RestartEmpty(t testing.TB) {
	t.Helper()
	r.Stop(t)
	if err := os.RemoveAll(r.node.data()); err != nil {
		t.Fatal(err)
	}
	r.Restart(t)
}

// Pause stops the server with SIGSTOP: connections stay open, new ones are
// accepted by the kernel, and nothing is answered until Resume.
func (r *RedisServer) Pause(t testing.TB) {
	t.Helper()
	if err := r.node.suspend(true); err != nil {
		t.Fatal(err)
	}
}

// Resume lets a paused server go on.
func (r *RedisServer) Resume(t testing.TB) {
	t.Helper()
	if err := r.node.suspend(false); err != nil {
		t.Fatal(err)
	}
}

// Config changes a setting of the running server, as CONFIG SET does, until it
// is started again.
func (r *RedisServer) Config(t testing.TB, name, value string) {
	t.Helper()
	r.Command(t, "CONFIG", "SET", name, value)
}

// Command is [RedisCommand] on database 0.
func (r *RedisServer) Command(t testing.TB, args ...string) any {
	t.Helper()
	return RedisCommand(t, r.URL(), args...)
}

// Log returns what the server has said so far.
func (r *RedisServer) Log() string { return r.node.log(0) }
