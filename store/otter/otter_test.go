package otter_test

import (
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/fraiseql/observer/store/cachetest"
	"github.com/fraiseql/observer/store/otter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func newCache(t testing.TB, cfg otter.Config[cachetest.Value]) *otter.Cache[cachetest.Value] {
	t.Helper()
	c, err := otter.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestCache(t *testing.T) {
	t.Parallel()
	cachetest.Run(t, func(t *testing.T) cachetest.Subject {
		t.Helper()
		return cachetest.Subject{
			Cache: newCache(t, otter.Config[cachetest.Value]{}),
			Unit:  50 * time.Millisecond, Pass: func(d time.Duration) { <-time.After(d) },
		}
	})
}

func TestTimeEndsToTheNanosecond(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := newCache(t, otter.Config[cachetest.Value]{})
		_ = c.Set(t.Context(), "a", cachetest.Value{Text: "a"}, time.Minute)
		<-time.After(time.Minute - 1)
		if _, found, _ := c.Get(t.Context(), "a"); !found {
			t.Error("gone before its time")
		}
		<-time.After(1)
		if _, found, _ := c.Get(t.Context(), "a"); found {
			t.Error("there after its time")
		}
	})
}

func TestBounds(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cfg        otter.Config[cachetest.Value]
		low, bound int // entries that stay
	}{
		"entries": {otter.Config[cachetest.Value]{MaxEntries: 100}, 50, 100},
		"bytes":   {otter.Config[cachetest.Value]{MaxBytes: 120_000, Size: func(cachetest.Value) int { return 1000 }}, 50, 100},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var evicted atomic.Int64
			tt.cfg.Evicted = func() { evicted.Add(1) }
			c := newCache(t, tt.cfg)
			const kept = 5000
			for i := range kept {
				_ = c.Set(t.Context(), strconv.Itoa(i), cachetest.Value{}, time.Hour)
			}
			left := func() (n int64) {
				for i := range kept {
					if _, found, _ := c.Get(t.Context(), strconv.Itoa(i)); found {
						n++
					}
				}
				return n
			}
			// What is too much goes in the background.
			for deadline := time.Now().Add(10 * time.Second); left() > int64(tt.bound) && time.Now().Before(deadline); {
				<-time.After(time.Millisecond)
			}
			if n := left(); n > int64(tt.bound) || n < int64(tt.low) || n+evicted.Load() != kept {
				t.Errorf("%d are left of %d, want %d to %d; %d were counted as evicted", n, kept, tt.low, tt.bound, evicted.Load())
			}
		})
	}
}

func TestWhatExpiresWasNotEvicted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var evicted atomic.Int64
		c := newCache(t, otter.Config[cachetest.Value]{Evicted: func() { evicted.Add(1) }})
		for i := range 100 {
			_ = c.Set(t.Context(), strconv.Itoa(i), cachetest.Value{}, time.Second)
			_ = c.Set(t.Context(), strconv.Itoa(i), cachetest.Value{}, time.Second)
		}
		<-time.After(time.Hour)
		if n := evicted.Load(); n != 0 {
			t.Errorf("%d were counted as evicted", n)
		}
	})
}

func TestNoRoomIsRefused(t *testing.T) {
	t.Parallel()
	for _, cfg := range []otter.Config[cachetest.Value]{{MaxEntries: -1}, {MaxBytes: -1}} {
		if _, err := otter.New(cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
