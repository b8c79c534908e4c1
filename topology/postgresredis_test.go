package topology_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

func TestPostgresRedisWantsPostgresAndRedis(t *testing.T) {
	t.Parallel()
	const redis = "[redis]\nurl = 'redis://127.0.0.1:1/0'\n"
	for name, tt := range map[string]struct{ text, want string }{
		"no Redis":      {"[[databases]]\nname = \"shop\"\nurl = \"postgres://127.0.0.1:1/a\"\n", "write [redis] with a url"},
		"no PostgreSQL": {"[[databases]]\nname = \"shop\"\nurl = \"sqlite:shop.db\"\n" + redis, "database shop is sqlite"},
	} {
		built, err := topology.PostgresRedis(t.Context(), parsed(t, tt.text), slog.New(slog.DiscardHandler))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error is %v, want %q", name, err, tt.want)
		}
		if built != nil {
			t.Errorf("%s: something was built: %v", name, built.Close())
		}
	}
}

// The program of the example, from a commit in PostgreSQL to a call; what was
// handled and what was answered is in Redis.
func TestPostgresRedisFromCommitToAction(t *testing.T) {
	t.Parallel()
	r := newReceiver(t, func(string) int { return http.StatusOK })
	url, redis := postgresOrders(t), testenv.Redis(t)
	file := filepath.Join(t.TempDir(), "fraiseql-observer.toml")
	text := "[[databases]]\nname = \"shop\"\nurl = '" + url + "'\n[redis]\nurl = '" + redis + "'\n" +
		"[network]\nallow = [\"127.0.0.0/8\"]\n[performance]\nenable_dedup = true\nenable_caching = true\n" +
		observerTo("each", r.URL+"/each", "") + observerTo("equal", r.URL+"/equal", "") + "cache = { ttl = \"1h\", key = \"orders\" }\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- observe(ctx, file) }()

	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "INSERT INTO orders VALUES (1, 'new')")
	r.await(t, "/equal")
	holds := func(pattern string) bool {
		keys, _ := testenv.RedisCommand(t, redis, "KEYS", pattern).([]any)
		return len(keys) > 0
	}
	// Claims are made in Redis as soon as the processes agree about that.
	for n := 2; !holds("fraiseql:dedup:*") || !holds("fraiseql:cache:*"); n++ {
		if n == 1000 {
			t.Fatalf("Redis holds %v", testenv.RedisCommand(t, redis, "KEYS", "*"))
		}
		testenv.Exec(t, conn, "INSERT INTO orders VALUES ($1, 'new')", n)
		r.await(t, "/each")
		<-time.After(20 * time.Millisecond)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if each, equal := r.calls("/each"), r.calls("/equal"); each < 2 || equal != 1 {
		t.Errorf("%d calls, and %d of the action with a cached result; want some and 1", each, equal)
	}
}
