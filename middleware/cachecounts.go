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
type CacheStats struct {
	mu      sync.Mutex
	actions map[cachedAction]*CacheCounters
}

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

// Of gives the counters of an action, which it keeps for as long as the process
// lives.
func (s *CacheStats) Of(observerName string, action int) *CacheCounters {
	s.mu.Lock()
	defer s.mu.Unlock()
	name := cachedAction{observerName, action}
	if s.actions == nil {
		s.actions = map[cachedAction]*CacheCounters{}
	}
	if s.actions[name] == nil {
		s.actions[name] = &CacheCounters{}
	}
	return s.actions[name]
}

// Read returns the counts so far, ordered by observer and action.
func (s *CacheStats) Read() []ActionCacheCounts {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]ActionCacheCounts, 0, len(s.actions))
	for name, c := range s.actions {
		all = append(all, ActionCacheCounts{name.observer, name.action, c.Read()})
	}
	slices.SortFunc(all, func(a, b ActionCacheCounts) int {
		return cmp.Or(cmp.Compare(a.Observer, b.Observer), cmp.Compare(a.Action, b.Action))
	})
	return all
}
