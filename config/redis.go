package config

import (
	"net/url"
	"slices"
	"time"

	"github.com/fraiseql/observer"
)

// Redis is a server that makes things faster and may forget them. There is none
// unless URL is set.
type Redis struct {
	// URL has the form redis://user:password@host:6379/0, with rediss for TLS.
	URL observer.Secret `toml:"url"`
	// PoolSize is how many connections commands that block may have.
	PoolSize int `toml:"pool_size" default:"10" min:"1" max:"1000"`
	// ConnectTimeout and CommandTimeout bound connecting and an answer.
	ConnectTimeout time.Duration `toml:"connect_timeout_secs" default:"5" min:"1" max:"60"`
	CommandTimeout time.Duration `toml:"command_timeout_secs" default:"2" min:"1" max:"60"`
	// DedupWindow is how long it is remembered that a delivery was handled, also
	// where there is no Redis.
	DedupWindow time.Duration `toml:"dedup_window_secs" default:"300" min:"1" max:"604800"`
	// CacheTTL is how long a result is cached by an action that does not say, also
	// where there is no Redis.
	CacheTTL time.Duration `toml:"cache_ttl_secs" default:"60" min:"1" max:"86400"`
}

// Configured reports whether there is a server.
func (r Redis) Configured() bool { return !r.URL.IsZero() }

func (r *Redis) read(s *scope) {
	s.fields(r)
	switch {
	case !s.given("url"):
		// The others are for what works without Redis, too.
		for _, key := range []string{"pool_size", "connect_timeout_secs", "command_timeout_secs"} {
			if s.table[key] != nil && !s.failed(key) {
				s.failKey(key, `stands without url: write url = "redis://host:6379/0"`)
			}
		}
	case !s.failed("url") && !validRedis(r.URL):
		s.failKey("url", `is no URL of Redis: write url = "redis://user:password@host:6379/0" (rediss:// with TLS)`)
	}
}

func validRedis(text observer.Secret) bool {
	u, err := url.Parse(text.Reveal())
	return err == nil && slices.Contains([]string{"redis", "rediss"}, u.Scheme) && u.Hostname() != ""
}

// Dedup says what deduplication does that [Performance].EnableDedup turns on.
type Dedup struct {
	// OnError is [DedupWait] or [DedupOpen].
	OnError string `toml:"on_error" default:"wait" choice:"wait,open"`
}

// What becomes of deliveries while nobody can say whether they were handled.
const (
	// DedupWait has them wait.
	DedupWait = "wait"
	// DedupOpen handles them, some of them twice.
	DedupOpen = "open"
)

// checkDedup reports settings of what is turned off.
func (s *scope) checkDedup(c *Config) {
	const key = "on_error"
	dedup, performance := s.inner("dedup"), s.inner("performance")
	if c.Performance.EnableDedup || c.Dedup.OnError != DedupOpen || dedup.failed(key) || performance.failed("enable_dedup") {
		return
	}
	if performance.given("enable_dedup") {
		line, _ := s.doc.position(performance.offset("enable_dedup"))
		dedup.failKey(key, "means nothing while performance.enable_dedup is false%s: write enable_dedup = true there", onLine(line))
		return
	}
	dedup.failKey(key, "means nothing without deduplication: write enable_dedup = true in [performance]")
}
