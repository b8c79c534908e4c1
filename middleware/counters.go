package middleware

import (
	"sync/atomic"

	"github.com/fraiseql/observer"
)

// Counters count how deliveries ended in this process. The zero value is ready
// and safe for concurrent use.
type Counters struct {
	done, dropped, scheduled, dead, unrecorded atomic.Int64

	dedupDetected, dedupSkipped, dedupBypassed, dedupOpen atomic.Int64

	limitsAlone atomic.Int64

	cache CacheCounters
}

// Counts is one reading of [Counters]. Scheduled counts what has to be tried
// again, whether or not the outcome of the attempt is known.
type Counts struct {
	Done, Dropped, Scheduled, Dead, Unrecorded int64

	// DedupDetected counts deliveries that somebody else had handled or was
	// handling, and DedupSkipped those of them that were not handled again.
	// DedupBypassed counts claims that the state store answered in place of Redis,
	// and DedupOpen deliveries that were handled without a claim.
	DedupDetected, DedupSkipped, DedupBypassed, DedupOpen int64

	// LimitsAlone counts attempts at endpoints with limits that only the limits of
	// this process held, because Redis did not answer.
	LimitsAlone int64

	// Cache counts the cached results of all actions.
	Cache CacheCounts
}

// Read returns the counts so far.
func (c *Counters) Read() Counts {
	return Counts{
		Done: c.done.Load(), Dropped: c.dropped.Load(), Scheduled: c.scheduled.Load(),
		Dead: c.dead.Load(), Unrecorded: c.unrecorded.Load(),
		DedupDetected: c.dedupDetected.Load(), DedupSkipped: c.dedupSkipped.Load(),
		DedupBypassed: c.dedupBypassed.Load(), DedupOpen: c.dedupOpen.Load(),
		LimitsAlone: c.limitsAlone.Load(),
		Cache:       c.cache.Read(),
	}
}

// Bypassed counts a claim that the state store answered in place of Redis.
func (c *Counters) Bypassed() { c.dedupBypassed.Add(1) }

// LimitedAlone counts an attempt that only the limits of this process held.
func (c *Counters) LimitedAlone() { c.limitsAlone.Add(1) }

// Evicted counts a cached result that was dropped for lack of room.
func (c *Counters) Evicted() { c.cache.evictions.Add(1) }

// count adds one ending and returns how many deliveries ended the same way.
func (c *Counters) count(state observer.State, unrecorded error) int64 {
	switch {
	case unrecorded != nil:
		return c.unrecorded.Add(1)
	case state == observer.Dead:
		return c.dead.Add(1)
	case state == observer.Dropped:
		return c.dropped.Add(1)
	case state.Due():
		return c.scheduled.Add(1)
	}
	return c.done.Add(1)
}
