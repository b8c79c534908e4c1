package cli_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

// levels are those of the findings about Redis.
func redisLevels(t *testing.T, redisURL string) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "observer.toml")
	text := "[[databases]]\nname = \"shop\"\nurl = '" + testenv.Database(t) + "'\n[redis]\nurl = '" + redisURL + "'\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, stdout, stderr := runDoctor(t, "--config", file, "--format", "json")
	var report struct {
		Findings []struct{ Check, Level string }
	}
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v\n%s%s", err, stdout, stderr)
	}
	levels := map[string]string{}
	for _, f := range report.Findings {
		levels[f.Check] = f.Level
	}
	return levels
}

func TestDoctorExaminesRedis(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{Persistent: true})
	for _, tt := range []struct {
		name                     string
		change                   []string
		self, evicting, unstored string
	}{
		{"fine", []string{"PING"}, "ok", "ok", "ok"},
		{"evicting", []string{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, "ok", "warning", "ok"},
		{"unpersisted", []string{"CONFIG", "SET", "appendonly", "no", "save", ""}, "ok", "warning", "warning"},
		{"snapshots", []string{"CONFIG", "SET", "save", "60 1", "maxmemory-policy", "noeviction"}, "ok", "ok", "note"},
		{"replica", []string{"REPLICAOF", "127.0.0.1", "1"}, "warning", "ok", "note"},
	} {
		server.Command(t, tt.change...)
		got := redisLevels(t, server.URL())
		if got["redis"] != tt.self || got["redis_eviction"] != tt.evicting || got["redis_persistence"] != tt.unstored {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	server.Stop(t)
	if got := redisLevels(t, server.URL()); got["redis"] != "warning" {
		t.Errorf("away: %v", got)
	}
}
