package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	observer "github.com/fraiseql/observer"
)

const (
	// DefaultCacheBytes is the default of [CacheConfig].MaxBytes.
	DefaultCacheBytes = 64 << 20
	// DefaultCachePatience is the default of [CacheConfig].Patience.
	DefaultCachePatience = 250 * time.Millisecond
	// cachePause is how long a server that failed is not asked again, so that one
	// which is away is not waited for by every delivery.
	cachePause = time.Second
	// cacheLocal is how long a value is kept in the process at most without asking
	// the server again.
	cacheLocal = time.Minute

	cachePrefix = "fraiseql:cache:"
)

// errPaused is given while a server that failed is left alone.
var errPaused = errors.New("it failed a moment ago and is not asked for a second")

// CacheConfig bounds a cache. The zero value of a field is its default.
type CacheConfig struct {
	// MaxBytes is about what is kept of Redis in the memory of the process.
	MaxBytes int
	// Patience is how long an answer may take: what is asked for can be done
	// without.
	Patience time.Duration
}

// Cache is an [observer.Cache] in Redis, shared by all processes that use the
// same database of the same server. What was asked for is kept in the process
// too, until its time is over or the server tells that it has changed, so that
// asking again takes no round trip. Make one with [NewCache] and end it with
// [Cache.Close].
//
// It has one connection of its own: what the server tells of changes comes on
// it in the order of the commands.
type Cache[V any] struct {
	client   *Client
	options  rueidis.ClientOption
	patience time.Duration
	link     *link
	// until is when a server that failed is asked again, in nanoseconds.
	until atomic.Int64
}

// NewCache makes a cache on the server of c. It connects to nobody yet. V is kept
// as JSON.
func NewCache[V any](c *Client, cfg CacheConfig) *Cache[V] {
	if cfg.MaxBytes <= 0 {
		cfg.MaxBytes = DefaultCacheBytes
	}
	if cfg.Patience <= 0 {
		cfg.Patience = DefaultCachePatience
	}
	options := c.options
	options.PipelineMultiplex = -1 // one connection
	options.CacheSizeEachConn = cfg.MaxBytes
	return &Cache[V]{client: c, options: options, patience: min(cfg.Patience, c.timeout), link: newLink()}
}

// Close ends the connection. Calls under way fail.
func (c *Cache[V]) Close() error {
	c.link.close()
	return nil
}

// Get implements [observer.Cache].
func (c *Cache[V]) Get(ctx context.Context, key string) (value V, found bool, err error) {
	var text []byte
	err = c.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		text, err = client.DoCache(ctx, client.B().Get().Key(cachePrefix+key).Cache(), cacheLocal).AsBytes()
		return err
	})
	switch {
	case rueidis.IsRedisNil(err):
		return value, false, nil
	case err != nil:
		return value, false, fmt.Errorf("look for a cached result: %w", err)
	}
	if err := json.Unmarshal(text, &value); err != nil {
		return *new(V), false, fmt.Errorf("a cached result in %s is none: %w", c.client.place, err)
	}
	return value, true, nil
}

// Set implements [observer.Cache].
func (c *Cache[V]) Set(ctx context.Context, key string, value V, ttl time.Duration) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode a result: %w", err)
	}
	err = c.do(ctx, func(ctx context.Context, client rueidis.Client) error {
		name, px := cachePrefix+key, max(ttl, time.Millisecond)
		// That the process kept nothing, or another value, is taken back by the
		// server after the first answer and before the second.
		for _, answer := range client.DoMulti(ctx, client.B().Set().Key(name).Value(rueidis.BinaryString(text)).Px(px).Build(),
			client.B().Exists().Key(name).Build()) {
			if err := answer.Error(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("keep a result: %w", err)
	}
	return nil
}

// do has a call made within the time that a cache has, unless the server failed
// a moment ago.
func (c *Cache[V]) do(ctx context.Context, call func(ctx context.Context, client rueidis.Client) error) error {
	if time.Now().UnixNano() < c.until.Load() {
		return fmt.Errorf("%s: %w", c.client.place, errPaused)
	}
	limited, cancel := context.WithTimeout(ctx, c.patience)
	defer cancel()
	client, err := c.connection(limited)
	if err == nil {
		err = call(limited, client)
	}
	if err == nil || rueidis.IsRedisNil(err) {
		return err
	}
	if ctx.Err() != nil { // the caller's, which says nothing of the server
		return ctx.Err()
	}
	c.until.Store(time.Now().Add(cachePause).UnixNano())
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s gave no answer within %s", c.client.place, c.patience)
	}
	return c.client.explain(err)
}

// connection is the connection, also when the time is over on a busy machine:
// what is kept in the process is given at any time.
func (c *Cache[V]) connection(ctx context.Context) (rueidis.Client, error) {
	select {
	case <-c.link.ready:
		if c.link.made != nil {
			return c.link.made, nil
		}
	default:
	}
	return c.link.client(ctx, c.options)
}

var _ observer.Cache[int] = (*Cache[int])(nil)
