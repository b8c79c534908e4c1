//go:build unix

package e2e

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer/lease"
)

// failoverGroups is how many sites are measured side by side.
const failoverGroups = 5

// failoverOf says with which lease to measure, and how often. E2E_FAILOVER_TTL and
// E2E_FAILOVER_ROUNDS, of each kind, set others, such as 10s and 20.
func failoverOf(t *testing.T) (ttl time.Duration, rounds int) {
	t.Helper()
	ttl, rounds = shortTTL, 50
	if raceEnabled {
		rounds = failoverGroups // the times are those of the race detector
	}
	var err error
	if text := os.Getenv("E2E_FAILOVER_TTL"); text != "" {
		if ttl, err = time.ParseDuration(text); err != nil {
			t.Fatalf("E2E_FAILOVER_TTL: %v", err)
		}
	}
	if text := os.Getenv("E2E_FAILOVER_ROUNDS"); text != "" {
		if rounds, err = strconv.Atoi(text); err != nil {
			t.Fatalf("E2E_FAILOVER_ROUNDS: %v", err)
		}
	}
	return ttl, rounds
}

// failovers are how long nothing was delivered.
type failovers struct {
	mu              sync.Mutex
	graceful, crash []time.Duration
}

// TestFailoverTimes measures how long it takes until somebody delivers after the
// daemon that reads was asked to stop, and after it was killed.
func TestFailoverTimes(t *testing.T) {
	t.Parallel()
	ttl, rounds := failoverOf(t)
	var all failovers
	t.Cleanup(func() { // when all sites have been measured
		// The process that stands by looks every half a second, or more often where
		// leases are short. What is left is for a machine that is busy.
		wantTimes(t, "asked to stop", all.graceful, time.Second)
		wantTimes(t, fmt.Sprintf("killed, ttl %s", ttl), all.crash, ttl+ttl/5+time.Second)
	})
	for group := range failoverGroups {
		n := (rounds + failoverGroups - 1 - group) / failoverGroups
		t.Run(strconv.Itoa(group), func(t *testing.T) {
			t.Parallel()
			all.measure(t, ttl, n)
		})
	}
}

// wantTimes prints how long something took, and compares it with what it may take.
func wantTimes(t *testing.T, what string, times []time.Duration, most time.Duration) {
	t.Helper()
	if len(times) == 0 {
		return // another test was asked for, or it failed
	}
	slices.Sort(times)
	median, p99 := times[len(times)/2], times[(len(times)*99+99)/100-1]
	t.Logf("%s: %d rounds, median %s, p99 %s", what, len(times), median.Round(time.Millisecond), p99.Round(time.Millisecond))
	if median > most || p99 > most && !raceEnabled {
		t.Errorf("%s: want less than %s", what, most)
	}
}

func (f *failovers) measure(t *testing.T, ttl time.Duration, rounds int) {
	t.Helper()
	recv := newReceiver(t, ok)
	s := onPostgres.newSite(t, "")
	s.ttl = ttl.String()
	s.configure(tagged(recv.url()))
	shop := newShop(s)
	reading, standing := s.pair()
	r := random(t)
	stop := shop.load(r, 40, 100)
	next := func(end func(*peer)) time.Duration {
		recv.from(t, reading, time.Now())
		pause(r, 0, lease.DefaultPoll) // the other one looked for the last time at any moment
		began := time.Now()
		end(reading)
		took := recv.from(t, standing, began).Sub(began)
		gone := reading
		reading, standing = standing, s.join()
		<-gone.exited
		return took
	}
	for range rounds {
		graceful, crash := next((*peer).leave), next((*peer).crash)
		f.mu.Lock()
		f.graceful, f.crash = append(f.graceful, graceful), append(f.crash, crash)
		f.mu.Unlock()
	}
	stop()
	s.arrived(shop, recv)
}
