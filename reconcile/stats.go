package reconcile

import (
	"sync"
	"time"
)

// Stats says what a verifier did since it was made, and where it is.
type Stats struct {
	// Verified counts the events that are known to be handled, Republished those that
	// were published again. While nothing is lost Republished stays 0.
	Verified, Republished uint64
	// Waiting is how many events are being verified and lack a receipt, Missing how
	// many of them were published again.
	Waiting, Missing int
	// Since is when the oldest event that is not verified was read; zero when there
	// is none.
	Since time.Time
	// Held is how many receipts are in memory: of events that are not read from the
	// log yet, or not in a checkpoint.
	Held int
}

// Stats may be called concurrently.
func (v *Verifier) Stats() Stats {
	v.counters.mu.Lock()
	stats := v.counters.stats
	v.counters.mu.Unlock()
	stats.Held = v.receipts.size()
	return stats
}

type counters struct {
	mu    sync.Mutex
	stats Stats
}

func (c *counters) change(f func(*Stats)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.stats)
}

func (c *counters) begin(b *batch) {
	c.change(func(s *Stats) { s.Since, s.Waiting = b.read, len(b.lacking) })
}

func (c *counters) end() {
	c.change(func(s *Stats) { s.Since, s.Waiting, s.Missing = time.Time{}, 0, 0 })
}

func (c *counters) waiting(b *batch) {
	c.change(func(s *Stats) {
		s.Waiting = len(b.lacking)
		if b.rounds > 0 {
			s.Missing = len(b.lacking)
		}
	})
}

func (c *counters) verified(n int) {
	c.change(func(s *Stats) { s.Verified += uint64(n) }) //nolint:gosec // a length
}

func (c *counters) republished(n int) {
	c.change(func(s *Stats) { s.Republished += uint64(n) }) //nolint:gosec // a length
}
