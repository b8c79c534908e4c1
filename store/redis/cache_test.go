package redis_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/cachetest"
	"github.com/fraiseql/observer/store/redis"
)

// newCache is patient: a busy machine must not look like a server that is away.
func newCache(t testing.TB, url string) *redis.Cache[cachetest.Value] {
	t.Helper()
	return newCacheWith(t, url, redis.CacheConfig{Patience: 10 * time.Second})
}

func newCacheWith(t testing.TB, url string, cfg redis.CacheConfig) *redis.Cache[cachetest.Value] {
	t.Helper()
	c := redis.NewCache[cachetest.Value](newClient(t, url), cfg)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ready waits for the connection: until then nothing is found.
func ready(t testing.TB, c observer.Cache[cachetest.Value]) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; <-time.After(10 * time.Millisecond) {
		_, _, err := c.Get(t.Context(), "ready")
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestCache(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(t *testing.T) cachetest.Subject {
		t.Helper()
		c := newCache(t, testenv.Redis(t))
		ready(t, c)
		return cachetest.Subject{Cache: c, Unit: 100 * time.Millisecond, Pass: func(d time.Duration) { <-time.After(d) }}
	})
}

func TestCacheIsSharedByProcesses(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newCache(t, url), newCache(t, url)
	ready(t, one)
	ready(t, other)
	for i := range 100 {
		want := cachetest.Value{Text: strconv.Itoa(i)}
		if _, _, err := other.Get(t.Context(), "a"); err != nil { // and remembers what it gave
			t.Fatal(err)
		}
		if err := one.Set(t.Context(), "a", want, time.Hour); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() bool {
			got, found, err := other.Get(t.Context(), "a")
			return err == nil && found && got == want
		})
	}
}

func eventually(t testing.TB, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !holds(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about")
		}
	}
}

func TestHotHitTakesNoRoundTrip(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	c := newCache(t, server.URL())
	ready(t, c)
	if err := c.Set(t.Context(), "hot", cachetest.Value{Text: "hot"}, time.Hour); err != nil {
		t.Fatal(err)
	}
	for i := range 1001 {
		if i == 1 {
			server.Command(t, "CONFIG", "RESETSTAT")
		}
		if got, found, err := c.Get(t.Context(), "hot"); err != nil || !found || got.Text != "hot" {
			t.Fatalf("%v, found %v, error %v", got, found, err)
		}
	}
	stats, _ := server.Command(t, "INFO", "commandstats").(string)
	if strings.Contains(stats, "cmdstat_get:") {
		t.Errorf("the server was asked again:\n%s", stats)
	}
}

// Whatever becomes of the server, an answer comes soon, and what is found is what
// was kept last.
func TestCacheSurvives(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		harm, mend []string // a command, or what a method of the server does
		errors     bool
		kept       bool // what was kept before is found afterwards
	}{
		"killed":    {[]string{"stop"}, []string{"restart"}, true, false},
		"paused":    {[]string{"pause"}, []string{"resume"}, true, true},
		"flushed":   {[]string{"FLUSHALL"}, nil, false, false},
		"read-only": {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}, true, true},
		"full":      {[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"}, true, true},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateRedis(t, testenv.RedisOptions{})
			c := newCacheWith(t, server.URL(), redis.CacheConfig{})
			ready(t, c)
			if err := newCache(t, server.URL()).Set(t.Context(), "before", cachetest.Value{Text: "before"}, time.Hour); err != nil {
				t.Fatal(err)
			}
			stop := underLoad(t, c)
			apply(t, server, tt.harm)
			<-time.After(2 * time.Second)
			if failed := stop(); tt.errors && failed == 0 {
				t.Errorf("%d uses failed", failed)
			}
			apply(t, server, tt.mend)
			eventually(t, func() bool {
				value := cachetest.Value{Text: strconv.FormatInt(time.Now().UnixNano(), 10)}
				if c.Set(t.Context(), "after", value, time.Hour) != nil {
					return false
				}
				got, found, err := c.Get(t.Context(), "after")
				return err == nil && found && got == value
			})
			got, found, err := newCache(t, server.URL()).Get(t.Context(), "before")
			if err != nil || found != tt.kept || found && got.Text != "before" {
				t.Errorf("what was kept before: %v, found %v, error %v; want %v", got, found, err, tt.kept)
			}
		})
	}
}

func apply(t *testing.T, server *testenv.RedisServer, command []string) {
	t.Helper()
	if len(command) == 0 {
		return
	}
	switch command[0] {
	case "stop":
		server.Stop(t)
	case "restart":
		server.Restart(t)
	case "pause":
		server.Pause(t)
	case "resume":
		server.Resume(t)
	default:
		server.Command(t, command...)
	}
}

// underLoad has values kept and looked for until stop is called, which gives how
// often that failed.
func underLoad(t *testing.T, c observer.Cache[cachetest.Value]) (stop func() int64) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var failed atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for j := 0; ctx.Err() == nil; j++ {
				key, want, began := strconv.Itoa(i)+"/"+strconv.Itoa(j), cachetest.Value{Text: strconv.Itoa(j)}, time.Now()
				setErr := c.Set(t.Context(), key, want, time.Hour)
				got, found, err := c.Get(t.Context(), key)
				if took := time.Since(began); took > 2*time.Second {
					t.Errorf("it took %s", took)
				}
				if setErr != nil || err != nil {
					failed.Add(1)
				}
				if found && got != want {
					t.Errorf("found %v, kept %v", got, want)
				}
				<-time.After(time.Millisecond)
			}
		})
	}
	return func() int64 { cancel(); wg.Wait(); return failed.Load() }
}

func TestWhoGivesUpSaysNothingOfTheServer(t *testing.T) {
	t.Parallel()
	c := newCache(t, testenv.Redis(t))
	ready(t, c)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := c.Get(gone, "a"); err == nil {
		t.Error("a cancelled look gave no error")
	}
	if _, _, err := c.Get(t.Context(), "a"); err != nil {
		t.Errorf("the next look: %v", err)
	}
}

func TestWhatIsNoResultIsAnError(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	c := newCache(t, url)
	ready(t, c)
	testenv.RedisCommand(t, url, "SET", "fraiseql:cache:a", "no JSON")
	if _, found, err := c.Get(t.Context(), "a"); err == nil || found {
		t.Errorf("found %v, error %v", found, err)
	}
	testenv.RedisCommand(t, url, "LPUSH", "fraiseql:cache:b", "no string")
	if _, found, err := c.Get(t.Context(), "b"); err == nil || found {
		t.Errorf("found %v, error %v", found, err)
	}
}
