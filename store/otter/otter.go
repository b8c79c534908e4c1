// Package otter keeps values in the memory of the process for a time, bounded in
// number and in bytes. What it has to drop for lack of room is what is least
// likely to be asked for again.
package otter

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/maypok86/otter/v2"

	"github.com/fraiseql/observer"
)

// The defaults of [Config].
const (
	DefaultMaxEntries = 100_000
	DefaultMaxBytes   = 64 << 20
)

// entryBytes is about what an entry costs beside its key and its value.
const entryBytes = 200

// Config bounds a cache. The zero value of a field is its default.
type Config[V any] struct {
	// MaxEntries and MaxBytes are bounds, of which the first that is reached
	// counts.
	MaxEntries, MaxBytes int
	// Size gives the bytes of a value; nil counts none.
	Size func(V) int
	// Evicted is told of each value that was dropped for lack of room before its
	// time was over; nil is not. It must be quick and must not use the cache.
	Evicted func()
}

// Cache is an [observer.Cache] in memory. Make one with [New] and end it with
// [Cache.Close]. It never gives an error.
type Cache[V any] struct {
	kept *otter.Cache[string, entry[V]]
}

type entry[V any] struct {
	value V
	ttl   time.Duration
}

// New makes an empty cache.
func New[V any](cfg Config[V]) (*Cache[V], error) {
	if cfg.MaxEntries < 0 || cfg.MaxBytes < 0 {
		return nil, errors.New("a cache cannot have less than no room")
	}
	if cfg.MaxEntries == 0 {
		cfg.MaxEntries = DefaultMaxEntries
	}
	if cfg.MaxBytes == 0 {
		cfg.MaxBytes = DefaultMaxBytes
	}
	kept, err := otter.New(&otter.Options[string, entry[V]]{
		MaximumWeight:    uint64(cfg.MaxBytes),
		Weigher:          cfg.weigh,
		ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, entry[V]]) time.Duration { return e.Value.ttl }),
		OnAtomicDeletion: func(e otter.DeletionEvent[string, entry[V]]) {
			if e.Cause == otter.CauseOverflow && cfg.Evicted != nil {
				cfg.Evicted()
			}
		},
		Logger: &otter.NoopLogger{},
	})
	if err != nil {
		return nil, fmt.Errorf("make a cache: %w", err)
	}
	return &Cache[V]{kept: kept}, nil
}

// weigh counts an entry as no less than its share of the room, so that no more
// than MaxEntries have room.
func (cfg Config[V]) weigh(key string, e entry[V]) uint32 {
	size := len(key) + entryBytes
	if cfg.Size != nil {
		size += cfg.Size(e.value)
	}
	share := (cfg.MaxBytes + cfg.MaxEntries - 1) / cfg.MaxEntries
	return uint32(min(max(size, share), math.MaxUint32))
}

// Get implements [observer.Cache].
func (c *Cache[V]) Get(_ context.Context, key string) (value V, found bool, err error) {
	e, found := c.kept.GetIfPresent(key)
	return e.value, found, nil
}

// Set implements [observer.Cache].
func (c *Cache[V]) Set(_ context.Context, key string, value V, ttl time.Duration) error {
	c.kept.Set(key, entry[V]{value, ttl})
	return nil
}

// Close ends what runs in the background. It does not wait for it.
func (c *Cache[V]) Close() error {
	c.kept.StopAllGoroutines()
	return nil
}

var _ observer.Cache[int] = (*Cache[int])(nil)
