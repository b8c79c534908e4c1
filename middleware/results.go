package middleware

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/fraiseql/observer"
)

// errWaiting is why a delivery is stored that was to wait for another.
var errWaiting = errors.New("an equal request is being made, and waiting for it was cut short")

// Results are the cached results of a process, and the requests that are under
// way to become some. Make them with [NewResults]; they are shared by all
// actions, and safe for concurrent use.
type Results struct {
	store  observer.Cache[CachedResult]
	counts *CacheCounters
	// away: the store failed when it was used last.
	away atomic.Bool

	mu      sync.Mutex
	flights map[string]*flight
}

// NewResults makes the results that are kept in store, counted in counters.
func NewResults(store observer.Cache[CachedResult], counters *Counters) *Results {
	return &Results{store: store, counts: &counters.cache, flights: map[string]*flight{}}
}

// flight is a request that is under way.
type flight struct {
	key string
	// ended is closed when it has ended. If ok, result is what it brought.
	ended  chan struct{}
	result CachedResult
	ok     bool
}

// join gives the request under way for a key; first says that it is the caller's
// to make, and then to [Results.leave].
func (r *Results) join(key string) (f *flight, first bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[key]; f != nil {
		return f, false
	}
	f = &flight{key: key, ended: make(chan struct{})}
	r.flights[key] = f
	return f, true
}

func (r *Results) leave(f *flight) {
	r.mu.Lock()
	delete(r.flights, f.key)
	r.mu.Unlock()
	close(f.ended)
}

// note takes note of how using the store went.
func (r *Results) note(err error, logger *slog.Logger) {
	if err != nil {
		r.counts.failures.Add(1)
	}
	if was := r.away.Load(); was == (err != nil) || !r.away.CompareAndSwap(was, err != nil) {
		return
	}
	if err != nil {
		logger.Warn("the result cache is away; everything is sent", "error", err)
		return
	}
	logger.Info("the result cache is back")
}
