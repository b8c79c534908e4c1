// Package cachetest is the conformance suite of caches. An implementation of
// [observer.Cache] calls [Run] from a test of its own.
package cachetest

import (
	"context"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// Value is what the suite keeps.
type Value struct {
	Text string    `json:"text"`
	At   time.Time `json:"at"`
}

// Subject is a cache under test.
type Subject struct {
	// Cache is empty, and nobody else uses it.
	Cache observer.Cache[Value]
	// Unit is a time that the cache can tell from twice and half of it, and Pass
	// has one pass.
	Unit time.Duration
	Pass func(time.Duration)
}

// Run runs the suite. start makes a subject for one test; it registers its
// cleanup with t and is called concurrently.
func Run(t *testing.T, start func(t *testing.T) Subject) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, s Subject){
		"what was not kept is not found": testAbsent,
		"what was kept is found":         testFound,
		"the last one counts":            testReplaced,
		"its time ends":                  testExpires,
		"keys and values of any text":    testAnyText,
		"many at once":                   testConcurrent,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, start(t))
		})
	}
}

func testAbsent(t *testing.T, s Subject) {
	for range 2 {
		absent(t, s, "a")
	}
}

func testFound(t *testing.T, s Subject) {
	absent(t, s, "a") // which a cache may remember
	want := Value{"one", time.Date(2026, 3, 1, 12, 0, 0, 123456789, time.UTC)}
	set(t, s, "a", want, time.Hour)
	for range 3 {
		found(t, s, "a", want)
	}
	absent(t, s, "b")
}

func testReplaced(t *testing.T, s Subject) {
	for i := range 50 {
		want := Value{Text: strconv.Itoa(i)}
		set(t, s, "a", want, time.Hour)
		found(t, s, "a", want)
	}
}

func testExpires(t *testing.T, s Subject) {
	set(t, s, "long", Value{Text: "long"}, 100*s.Unit)
	set(t, s, "short", Value{Text: "short"}, 2*s.Unit)
	found(t, s, "short", Value{Text: "short"})
	s.Pass(3 * s.Unit)
	absent(t, s, "short")
	found(t, s, "long", Value{Text: "long"})
	set(t, s, "short", Value{Text: "again"}, 100*s.Unit)
	s.Pass(3 * s.Unit)
	found(t, s, "short", Value{Text: "again"})
}

func testAnyText(t *testing.T, s Subject) {
	for _, text := range []string{"", " ", "a:b", "*", "{x}", "caf\u00e9", "a\r\nb\x00"} {
		set(t, s, "key "+text, Value{Text: text}, time.Hour)
		found(t, s, "key "+text, Value{Text: text})
	}
}

func testConcurrent(t *testing.T, s Subject) {
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for j := range 50 {
				key := strconv.Itoa(i) + "/" + strconv.Itoa(j)
				absent(t, s, key)
				set(t, s, key, Value{Text: key}, time.Hour)
				found(t, s, key, Value{Text: key})
			}
		})
	}
	wg.Wait()
}

func set(t *testing.T, s Subject, key string, v Value, ttl time.Duration) {
	t.Helper()
	if err := s.Cache.Set(t.Context(), key, v, ttl); err != nil {
		t.Errorf("set %q: %v", key, err)
	}
}

func found(t *testing.T, s Subject, key string, want Value) {
	t.Helper()
	got, found, err := s.Cache.Get(t.Context(), key)
	if err != nil || !found || got.Text != want.Text || !got.At.Equal(want.At) {
		t.Errorf("get %q: %v, found %v, error %v; want %v", key, got, found, err, want)
	}
}

func absent(t *testing.T, s Subject, key string) {
	t.Helper()
	got, found, err := s.Cache.Get(context.WithoutCancel(t.Context()), key)
	if err != nil || found {
		t.Errorf("get %q: %v, found %v, error %v; want nothing", key, got, found, err)
	}
}
