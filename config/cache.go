package config

import (
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/action/webhook"
	"github.com/fraiseql/observer/template"
)

// Cache bounds the cached results in the memory of the process: all of them, or
// where there is Redis, what is kept of it here.
type Cache struct {
	// MaxEntries bounds the results; where there is Redis, MaxBytes alone counts.
	MaxEntries int `toml:"max_entries" default:"100000" min:"1" max:"100000000"`
	// MaxBytes bounds the memory.
	MaxBytes int `toml:"max_bytes" default:"67108864" min:"1048576" max:"68719476736"`
}

// ActionCache says how long an equal request of an action is not sent again.
type ActionCache struct {
	// On says that the action has a cache at all.
	On bool `toml:"-"`
	// TTL is how long a result serves others; that of [Redis] unless set.
	TTL time.Duration `toml:"ttl" min:"1s" max:"24h"`
	// Key is a template that says which requests are equal, and Template what it
	// was compiled to; "" and nil compare the requests.
	Key      string             `toml:"key"`
	Template *template.Template `toml:"-"`
}

const cacheKey = "cache"

func (a *ActionCache) read(s *scope) {
	s.fields(a)
	a.On = s.table != nil || s.given("ttl") || s.given("key")
	if a.Key == "" || s.failed("key") {
		return
	}
	var err error
	if a.Template, err = template.Compile(a.Key, template.Text); err != nil {
		s.failText("key", err)
	}
}

// checkCache reports a cache that is turned off for all, or that could not tell
// which requests are equal. built is the action, nil when it is wrong.
func (a *Action) checkCache(s *scope, c *Config, built observer.Action) {
	const enabled = "enable_caching"
	if !a.Cache.On {
		return
	}
	if a.Cache.TTL == 0 {
		a.Cache.TTL = c.Redis.CacheTTL
	}
	performance := s.root().inner("performance")
	switch {
	case s.brokenBelow(join(s.path, cacheKey)) || performance.failed(enabled):
	case !c.Performance.EnableCaching && performance.given(enabled):
		line, _ := s.doc.position(performance.offset(enabled))
		s.failKey(cacheKey, "means nothing while performance.enable_caching is false%s: write enable_caching = true there", onLine(line))
	case !c.Performance.EnableCaching:
		s.failKey(cacheKey, "means nothing without caching: write enable_caching = true in [performance]")
	case built != nil && a.Cache.Key == "" && !identifies(built):
		s.failKey(cacheKey, `has no key, and a %s action cannot tell which of its requests are equal: write key = "{{ ... }}" in it`, a.Type)
	}
}

// cacheWarning says that no two requests of a webhook are equal; "" otherwise.
func (a Action) cacheWarning(path string, hook *webhook.Config) string {
	if !a.Cache.On || a.Cache.Key != "" || hook.BodyTemplate != "" || strings.EqualFold(hook.Method, "GET") {
		return ""
	}
	return path + ".cache never has a result: the body is the whole event, of which no two are equal; write body_template, or a key in it"
}

func identifies(a observer.Action) bool {
	_, ok := a.(observer.Identifier)
	return ok
}
