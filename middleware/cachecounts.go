package middleware

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
)

// CacheCounters count what became of looks for cached results. The zero value is
// ready and safe for concurrent use.
type CacheCounters struct{ hits, misses, evictions, failures atomic.Int64 }

// CacheCounts is one reading of [CacheCounters].
type CacheCounts struct {
	// Hits are deliveries that ended without being sent, Misses those that were
	// sent because there was no result. What a person had run again is neither.
	Hits, Misses int64
	// Evictions are results that were dropped for lack of room in the memory of
	// the process. They are counted for all actions together.
	Evictions int64
	// Failures are uses of a store that was away; deliveries go on without.
	Failures int64
}

// Read returns the counts so far.
func (c *CacheCounters) Read() CacheCounts {
	return CacheCounts{Hits: c.hits.Load(), Misses: c.misses.Load(), Evictions: c.evictions.Load(), Failures: c.failures.Load()}
}

// CacheStats count for each action that has a cache. The zero value is ready and
// safe for concurrent use.
type CacheStats struct{ actions sync.Map } // of *CacheCounters by cachedAction

type cachedAction struct {
	observer string
	action   int
}

// ActionCacheCounts are the counts of an action, by the name of its observer and
// its index there.
type ActionCacheCounts struct {
	Observer string
	Action   int
	CacheCounts
}

// Of gives the counters of an action, which are kept for as long as the process
// lives.
func (s *CacheStats) Of(observerName string, action int) *CacheCounters {
	name := cachedAction{observerName, action}
	found, there := s.actions.Load(name)
	if !there {
		found, _ = s.actions.LoadOrStore(name, &CacheCounters{})
	}
	counters, _ := found.(*CacheCounters)
	return counters
}

// Read returns the counts so far, ordered by observer and action.
func (s *CacheStats) Read() []ActionCacheCounts {
	var all []ActionCacheCounts
	s.actions.Range(func(key, _ any) bool {
		if name, ok := key.(cachedAction); ok {
			all = append(all, ActionCacheCounts{name.observer, name.action, s.Of(name.observer, name.action).Read()})
		}
		return true
	})
	slices.SortFunc(all, func(a, b ActionCacheCounts) int {
		return cmp.Or(cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Action, b.Action))
	})
	return all
}
