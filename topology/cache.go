package topology

import (
	"fmt"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/otter"
	"github.com/fraiseql/observer/store/redis"
)

// closer is a result cache that ends.
type closer interface {
	observer.Cache[middleware.CachedResult]
	Close() error
}

// buildResults makes where results are cached: in Redis where there is one, so
// that all processes share them, and else in memory.
func (t *Topology) buildResults(cfg *config.Config) (*middleware.Results, error) {
	if !cfg.Performance.EnableCaching {
		return nil, nil //nolint:nilnil // there may be none
	}
	store, err := t.openCache(cfg)
	if err != nil {
		return nil, err
	}
	t.cache = store
	return middleware.NewResults(store, t.Counters), nil
}

func (t *Topology) openCache(cfg *config.Config) (closer, error) {
	if t.redis != nil {
		return redis.NewCache[middleware.CachedResult](t.redis, redis.CacheConfig{MaxBytes: cfg.Cache.MaxBytes}), nil
	}
	store, err := otter.New(otter.Config[middleware.CachedResult]{
		MaxEntries: cfg.Cache.MaxEntries, MaxBytes: cfg.Cache.MaxBytes,
		Size: middleware.CachedResult.Size, Evicted: t.Counters.Evicted,
	})
	if err != nil {
		return nil, fmt.Errorf("result cache: %w", err)
	}
	return store, nil
}

// CacheStats counts the cached results of each action that has a cache, so far.
// Those of all actions together are in Counters.
func (t *Topology) CacheStats() []middleware.ActionCacheCounts { return t.layers.caches.Read() }

// cacheOf is the layer that takes cached results; none for an action without. A
// configuration that turns caching on takes effect with the next start.
func (l *layers) cacheOf(a config.Action, act observer.Action) Layer {
	identify, ok := act.(observer.Identifier)
	if !a.Cache.On || !l.cfg.Performance.EnableCaching || a.Cache.Template == nil && !ok { // the last the configuration has refused
		return Layer{}
	}
	return Layer{"cache", aboutCache(l.cfg, a.Cache), func() observer.Middleware[observer.Action] {
		cache := middleware.Cache{
			Results: l.results, TTL: a.Cache.TTL, Patience: l.timeoutOf(a), Stats: l.caches, Logger: l.logger,
		}
		if a.Cache.Template != nil {
			cache.Key, cache.Scope = a.Cache.Template, a.Print()
		} else {
			cache.Identify = identify
		}
		return cache.Middleware()
	}}
}
