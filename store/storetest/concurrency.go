package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	observer "github.com/fraiseql/observer"
)

func concurrencyTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"concurrent/one of 64 claims wins":                oneStore(testClaimRace),
		"concurrent/each due delivery is handed out once": oneStore(testClaimDueRace),
		"concurrent/one of two ways to claim wins":        oneStore(testMixedClaimRace),
		"concurrent/one insert wins":                      oneStore(testInsertRace),
		"concurrent/the cap holds":                        oneStore(testCapRace),
		"concurrent/a checkpoint is never a mixture":      oneStore(testCheckpointRace),

		"two stores/one of 64 claims wins":                twoStores(testClaimRace),
		"two stores/each due delivery is handed out once": twoStores(testClaimDueRace),
		"two stores/one of two ways to claim wins":        twoStores(testMixedClaimRace),
		"two stores/one insert wins":                      twoStores(testInsertRace),
		"two stores/the cap holds":                        twoStores(testCapRace),
		"two stores/a checkpoint is never a mixture":      twoStores(testCheckpointRace),
	}
}

const (
	racers  = 64
	raceCap = 10
)

// race is a test of goroutines that use one store, or several on the same data
// by turns.
type race func(t *testing.T, h *harness, stores []observer.StateStore)

func oneStore(test race) func(*testing.T, *harness) {
	return func(t *testing.T, h *harness) {
		t.Helper()
		test(t, h, []observer.StateStore{h.store(t, Options{MaxDead: raceCap})})
	}
}

func twoStores(test race) func(*testing.T, *harness) {
	return func(t *testing.T, h *harness) {
		t.Helper()
		opts := Options{MaxDead: raceCap, Dir: t.TempDir()}
		test(t, h, []observer.StateStore{h.store(t, opts), h.store(t, opts)})
	}
}

// together runs f for 0 to n-1 at once.
func together(n int, f func(i int)) {
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			<-start
			f(i)
		})
	}
	close(start)
	wg.Wait()
}

// tally collects what goroutines did.
type tally struct {
	mu   sync.Mutex
	keys []string
}

func (c *tally) add(keys ...string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.keys = append(c.keys, keys...)
}

func (c *tally) sorted() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	slices.Sort(c.keys)
	return c.keys
}

func testClaimRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	insert(t, stores[0], dead(1))
	for range 5 {
		var winners tally
		together(racers, func(i int) {
			owner := fmt.Sprint("owner-", i)
			_, err := stores[i%len(stores)].ClaimDelivery(t.Context(), dead(1).Key, owner, lease)
			if err == nil {
				winners.add(owner)
			} else if !errors.Is(err, observer.ErrBusy) {
				t.Errorf("claim: %v", err)
			}
		})
		if len(winners.keys) != 1 {
			t.Fatalf("got %d winners, want 1", len(winners.keys))
		}
		wantDiff(t, "holder", winners.keys[0], get(t, stores[0], dead(1).Key).LeaseOwner)
		h.clock.advance(lease)
	}
}

func testClaimDueRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	const n = 200
	var want []string
	for i := range n {
		insert(t, stores[0], scheduled(i, h.clock.Now()))
		want = append(want, delivery(i).Key)
	}
	var claimed tally
	together(16, func(i int) {
		for range n { // more than there is to claim
			ds, err := stores[i%len(stores)].ClaimDue(t.Context(), observer.Claim{Owner: fmt.Sprint("owner-", i), Lease: lease, Limit: 7})
			if err != nil {
				t.Errorf("claim due: %v", err)
			}
			if len(ds) == 0 {
				return
			}
			claimed.add(keys(ds)...)
		}
	})
	wantDiff(t, "claimed", want, claimed.sorted())
}

func testMixedClaimRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	const n = 20
	var want []string
	for i := range n {
		insert(t, stores[0], scheduled(i, h.clock.Now()))
		want = append(want, delivery(i).Key)
	}
	var claimed tally
	together(2*n, func(i int) {
		s, owner := stores[i%len(stores)], fmt.Sprint("owner-", i)
		if i%3 == 0 {
			ds, err := s.ClaimDue(t.Context(), observer.Claim{Owner: owner, Lease: lease, Limit: 3})
			if err != nil {
				t.Errorf("claim due: %v", err)
			}
			claimed.add(keys(ds)...)
			return
		}
		d, err := s.ClaimDelivery(t.Context(), delivery(i%n).Key, owner, lease)
		if err == nil {
			claimed.add(d.Key)
		} else if !errors.Is(err, observer.ErrBusy) {
			t.Errorf("claim: %v", err)
		}
	})
	claimed.add(keys(claimDue(t, stores[0], "last", n))...)
	wantDiff(t, "claimed", want, claimed.sorted())
}

func testInsertRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	var won atomic.Int64
	together(racers, func(i int) {
		d := dead(1)
		d.Observer = fmt.Sprint("observer-", i)
		d.Error = d.Observer
		stored, err := stores[i%len(stores)].InsertDeliveries(t.Context(), d)
		if err != nil {
			t.Errorf("insert: %v", err)
		}
		won.Add(int64(stored))
	})
	got := get(t, stores[0], dead(1).Key)
	wantDiff(t, "one row, of one insert", got.Observer, got.Error)
	wantDiff(t, "dead", 1, stats(t, stores[0]).States[observer.Dead])
	wantDiff(t, "inserts that stored it", int64(1), won.Load())
}

func testCapRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	var accepted tally
	together(racers, func(i int) {
		err := insertError(t, stores[i%len(stores)], dead(i))
		if err == nil {
			accepted.add(dead(i).Key)
		} else if !errors.Is(err, observer.ErrFull) {
			t.Errorf("insert: %v", err)
		}
	})
	wantDiff(t, "accepted", raceCap, len(accepted.keys))
	stored := list(t, stores[0], observer.DeliveryFilter{State: observer.Dead})
	slices.Sort(stored)
	wantDiff(t, "stored", accepted.sorted(), stored)
}

func testCheckpointRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	together(racers, func(i int) {
		s, name := stores[i%len(stores)], strconv.Itoa(i)
		cp := observer.Checkpoint{Position: observer.Position(name), Done: slices.Repeat([]string{name}, 100)}
		if err := s.SaveCheckpoint(t.Context(), "shared", cp); err != nil {
			t.Errorf("save: %v", err)
		}
		if err := wholeCheckpoint(t.Context(), s); err != nil {
			t.Error(err)
		}
		if err := s.SaveCheckpoint(t.Context(), name, cp); err != nil {
			t.Errorf("save own: %v", err)
		}
		wantCheckpoint(t, s, name, cp)
	})
}

func wholeCheckpoint(ctx context.Context, s observer.StateStore) error {
	cp, err := s.LoadCheckpoint(ctx, "shared")
	if err != nil {
		return err
	}
	other := func(id string) bool { return id != string(cp.Position) }
	if len(cp.Done) != 100 || slices.ContainsFunc(cp.Done, other) {
		return fmt.Errorf("the checkpoint at %s has %d done ids, some of another save", cp.Position, len(cp.Done))
	}
	return nil
}
