package bench_test

import (
	"crypto/rand"
	"fmt"
	"math"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/otter"
	"github.com/fraiseql/observer/store/redis"
)

// BenchmarkCacheHit looks for results that were asked for before, from many
// goroutines: a rate, and the time that 99 of 100 looks take at most.
func BenchmarkCacheHit(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		c, err := otter.New(otter.Config[middleware.CachedResult]{Size: middleware.CachedResult.Size})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		benchmarkHits(b, c)
	})
	b.Run("redis", func(b *testing.B) { benchmarkHits(b, redisCache(b)) })
}

// BenchmarkCacheFill looks for results that are not there and keeps them, which
// is what a cache costs a call that is made.
func BenchmarkCacheFill(b *testing.B) {
	b.Run("memory", func(b *testing.B) {
		c, err := otter.New(otter.Config[middleware.CachedResult]{Size: middleware.CachedResult.Size})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		benchmarkFill(b, c)
	})
	b.Run("redis", func(b *testing.B) { benchmarkFill(b, redisCache(b)) })
}

func redisCache(b *testing.B) observer.Cache[middleware.CachedResult] {
	b.Helper()
	client, err := redis.New(redis.Config{URL: observer.NewSecret(testenv.PrivateRedis(b, testenv.RedisOptions{}).URL())})
	if err != nil {
		b.Fatal(err)
	}
	c := redis.NewCache[middleware.CachedResult](client, redis.CacheConfig{Patience: 2 * time.Second})
	b.Cleanup(func() { _, _ = c.Close(), client.Close() })
	for _, _, err := c.Get(b.Context(), "ready"); err != nil; _, _, err = c.Get(b.Context(), "ready") {
		<-time.After(time.Millisecond)
	}
	return c
}

func answered() middleware.CachedResult {
	return middleware.CachedResult{Status: 200, Detail: `{"ok":true}`, At: time.Now()}
}

func benchmarkHits(b *testing.B, c observer.Cache[middleware.CachedResult]) {
	b.Helper()
	const hot = 1000
	keys := make([]string, hot)
	for i := range keys {
		keys[i] = "key " + strconv.Itoa(i)
		if err := c.Set(b.Context(), keys[i], answered(), time.Hour); err != nil {
			b.Fatal(err)
		}
		if _, found, err := c.Get(b.Context(), keys[i]); !found || err != nil {
			b.Fatalf("not found: %v", err)
		}
	}
	measured(b, func(i int) error {
		if _, found, err := c.Get(b.Context(), keys[i%hot]); !found || err != nil {
			return fmt.Errorf("found %v, error %w", found, err)
		}
		return nil
	})
}

func benchmarkFill(b *testing.B, c observer.Cache[middleware.CachedResult]) {
	b.Helper()
	run := rand.Text() // a benchmark runs several times
	measured(b, func(i int) error {
		key := run + strconv.Itoa(i)
		if _, found, err := c.Get(b.Context(), key); found || err != nil {
			return fmt.Errorf("found %v, error %w", found, err)
		}
		return c.Set(b.Context(), key, answered(), time.Hour)
	})
}

// measured runs once from 32 goroutines and reports the rate and the 99th
// percentile of its time. once is told how often it ran before.
func measured(b *testing.B, once func(i int) error) {
	b.Helper()
	var mu sync.Mutex
	var all []time.Duration
	next := 0
	b.SetParallelism(16)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		mu.Lock()
		base := next
		next += math.MaxInt32
		mu.Unlock()
		var took []time.Duration
		for i := 0; pb.Next(); i++ {
			began := time.Now()
			if err := once(base + i); err != nil {
				b.Error(err)
				return
			}
			took = append(took, time.Since(began))
		}
		mu.Lock()
		all = append(all, took...)
		mu.Unlock()
	})
	b.StopTimer()
	slices.Sort(all)
	if b.Failed() {
		return
	}
	b.ReportMetric(float64(len(all))/b.Elapsed().Seconds(), "op/s")
	b.ReportMetric(float64(all[len(all)*99/100].Microseconds()), "p99_µs")
}
