//go:build unix

package e2e

import (
	"net/http"
	"sync"
	"testing"
	"time"
)

// TestInvariant4OrderPerEntity runs a load against a receiver that answers
// some requests late and refuses some at first. The versions of each item must
// begin to arrive in commit order, and no version of an item before the one
// before it was answered.
func TestInvariant4OrderPerEntity(t *testing.T) {
	t.Parallel()
	onEach(t, orderPerEntity)
}

func orderPerEntity(t *testing.T, on flavour) {
	t.Helper()
	r := random(t)
	var mu sync.Mutex
	active, overlaps := map[int64]int{}, 0
	recv := newReceiver(t, func(r receipt) int {
		mu.Lock()
		if active[r.change.item]++; active[r.change.item] > 1 {
			overlaps++
		}
		mu.Unlock()
		defer func() {
			mu.Lock()
			defer mu.Unlock()
			active[r.change.item]--
		}()
		if r.change.version%7 == 0 {
			<-time.After(20 * time.Millisecond)
		}
		if r.change.version%11 == 0 && r.attempt < 3 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	s := on.newSite(t, noBreaker+hook("all", recv.url(), `retry = { max_attempts = 5, initial_delay_ms = 20 }`))
	shop := newShop(s)
	s.start()
	stop := shop.load(r, 30, 400)
	eventually(t, "a few hundred changes are committed", func() bool { return len(shop.all()) >= 250 })
	stop()
	eventually(t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	s.stop()
	oracle{shop.all(), recv.receipts()}.check(t)
	if n := len((oracle{receipts: recv.receipts()}).repetitions()); n > 0 {
		t.Errorf("%d deliveries were repeated without any kill", n)
	}
	mu.Lock()
	defer mu.Unlock()
	t.Logf("%d changes", len(shop.all()))
	if overlaps > 0 {
		t.Errorf("%d requests of an item came while an earlier one was being answered", overlaps)
	}
}

// TestInvariant4EntitiesInParallel holds every request until several are
// there: a line of one at a time would never get further.
func TestInvariant4EntitiesInParallel(t *testing.T) {
	t.Parallel()
	const together = 8
	var mu sync.Mutex
	waiting, met := 0, make(chan struct{})
	recv := newReceiver(t, func(receipt) int {
		mu.Lock()
		if waiting++; waiting == together {
			close(met)
		}
		mu.Unlock()
		<-met
		return http.StatusOK
	})
	s := newSite(t, "[performance]\nmax_concurrency = 200\n"+hook("all", recv.url()))
	shop := newShop(s)
	for item := range int64(2 * together) {
		shop.put(item)
	}
	s.start()
	eventually(t, "many are in flight at a time", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	s.stop()
}

// TestInvariant4BlockedEntityStopsNoOther never answers one item of a strict
// observer. Its own later changes wait; those of the others do not.
func TestInvariant4BlockedEntityStopsNoOther(t *testing.T) {
	t.Parallel()
	const blocked, others = int64(1), 60
	release := make(chan struct{})
	recv := newReceiver(t, func(r receipt) int {
		if r.change.item == blocked {
			<-release
		}
		return http.StatusOK
	})
	s := newSite(t, "[performance]\nmax_concurrency = 500\n"+hook("all", recv.url(), `order = "strict"`))
	shop := newShop(s)
	s.start()
	shop.put(blocked)
	shop.put(blocked)
	for item := range int64(others) {
		shop.put(item + 2)
	}
	eventually(t, "the others arrive", func() bool { return recv.count(accepted) == others })
	if n := recv.count(func(r receipt) bool { return r.change.item == blocked }); n != 1 {
		t.Errorf("%d requests for the blocked item, want 1: the second change waits for the first", n)
	}
	close(release)
	eventually(t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	s.stop()
	oracle{shop.all(), recv.receipts()}.check(t)
}
