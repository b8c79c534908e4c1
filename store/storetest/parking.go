package storetest

import (
	"errors"
	"fmt"
	"runtime"
	"strconv"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func parkingTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"concurrent/parked while the blocker ends":   oneStore(testParkRace),
		"concurrent/lanes are worked off in order":   oneStore(testLaneRace),
		"concurrent/redriven while the blocker ends": oneStore(testRequeueRace),
		"concurrent/one begins":                      oneStore(testBeginRace),
		"concurrent/batches that overlap":            oneStore(testBatchRace),

		"two stores/parked while the blocker ends":   twoStores(testParkRace),
		"two stores/lanes are worked off in order":   twoStores(testLaneRace),
		"two stores/redriven while the blocker ends": twoStores(testRequeueRace),
		"two stores/one begins":                      twoStores(testBeginRace),
		"two stores/batches that overlap":            twoStores(testBatchRace),
	}
}

// testParkRace inserts what has to wait while what it waits for ends, in many
// lanes at once: it must never be parked with nobody left to release it.
func testParkRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	const lanes = 24
	ends := map[string]func(s observer.StateStore, key string){
		"update": func(s observer.StateStore, key string) { finish(t, s, key) },
		"remove": func(s observer.StateStore, key string) { remove(t, s, key) },
	}
	round := 0
	for name, end := range ends {
		for _, order := range []observer.Order{observer.OrderStrict, observer.OrderEntity} {
			round++
			id := func(lane, place int) int { return round*1000 + lane*10 + place }
			in := func(lane, place int) *observer.Delivery {
				d := strict(id(lane, place), fmt.Sprint(round, "/", lane))
				d.Order = order
				return d
			}
			for lane := range lanes {
				insert(t, stores[0], in(lane, 0))
			}
			together(3*lanes, func(i int) {
				s, lane := stores[i%len(stores)], i/3
				if i%3 == 0 {
					end(s, in(lane, 0).Key)
					return
				}
				insert(t, s, in(lane, i%3))
			})
			for lane := range lanes {
				a, b := get(t, stores[0], in(lane, 1).Key).State, get(t, stores[0], in(lane, 2).Key).State
				if a == b || a != observer.Queued && b != observer.Queued {
					t.Errorf("%s, %s: the two behind it are %s and %s, want one queued and one parked", name, order, a, b)
				}
			}
		}
	}
}

// testLaneRace has writers fill lanes while workers empty them.
func testLaneRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	const lanes, each, workers = 6, 10, 4
	giveUp := time.Now().Add(time.Minute)
	var sent [lanes]tally
	var done tally
	together(lanes+workers, func(i int) {
		s := stores[i%len(stores)]
		if i < lanes {
			for n := range each {
				insert(t, s, strict(i*each+n, fmt.Sprint("lane ", i)))
			}
			return
		}
		for len(done.sorted()) < lanes*each && time.Now().Before(giveUp) {
			runtime.Gosched() // a store in memory would leave no time for those who insert
			for _, d := range claimDue(t, s, fmt.Sprint("worker ", i), 3) {
				var n int
				if _, err := fmt.Sscanf(d.Event.ID, "event-%d", &n); err != nil {
					t.Errorf("event %q: %v", d.Event.ID, err)
				}
				sent[n/each].add(d.Key)
				d.Succeed()
				update(t, s, d, fmt.Sprint("worker ", i))
				done.add(d.Key)
			}
		}
	})
	for lane := range lanes {
		var want []string
		for n := range each {
			want = append(want, delivery(lane*each+n).Key)
		}
		wantDiff(t, "sent", want, sent[lane].keys)
	}
	wantDiff(t, "states", map[observer.State]int{observer.Done: lanes * each}, stats(t, stores[0]).States)
}

// testRequeueRace redrives a dead letter while what is on its way ends.
func testRequeueRace(t *testing.T, h *harness, stores []observer.StateStore) {
	t.Helper()
	const lanes = raceCap // each has a dead letter
	for lane := range lanes {
		first := strict(lane*10, strconv.Itoa(lane))
		insert(t, stores[0], first)
		fail(t, stores[0], first.Key, observer.Dead)
		insert(t, stores[0], strict(lane*10+1, strconv.Itoa(lane)))
	}
	together(2*lanes, func(i int) {
		s, lane := stores[i%len(stores)], i/2
		if i%4 < 2 == (i%2 == 0) { // each store does either in turn
			requeue(t, s, delivery(lane*10).Key, h.clock.Now())
		} else {
			finish(t, s, delivery(lane*10+1).Key)
		}
	})
	for lane := range lanes {
		wantState(t, "redriven", stores[0], delivery(lane*10), observer.Queued)
	}
}

func testBeginRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	var winners tally
	together(racers, func(i int) {
		owner := fmt.Sprint("owner-", i)
		if i%2 == 0 {
			if begin(t, stores[i/2%len(stores)], delivery(1), owner) {
				winners.add(owner)
			}
		} else if insert(t, stores[i/2%len(stores)], queued(1, time.Time{})) == 1 {
			winners.add("")
		}
	})
	if len(winners.keys) != 1 {
		t.Fatalf("got %d winners, want 1", len(winners.keys))
	}
	wantDiff(t, "holder", winners.keys[0], get(t, stores[0], delivery(1).Key).LeaseOwner)
}

// testBatchRace: every key is stored once, whatever order the batches have, and
// a full store stores all of a batch or nothing.
func testBatchRace(t *testing.T, _ *harness, stores []observer.StateStore) {
	t.Helper()
	const n = 40
	var stored tally
	together(racers/2, func(i int) {
		var ds []*observer.Delivery
		for k := range n {
			place := (k + i) % n
			if i%2 == 1 {
				place = (i + n - k) % n
			}
			ds = append(ds, queued(place, time.Time{}))
		}
		count, err := stores[i/2%len(stores)].InsertDeliveries(t.Context(), ds...)
		if err != nil {
			t.Errorf("insert: %v", err)
		}
		stored.add(make([]string, count)...)
	})
	wantDiff(t, "stored in all", n, len(stored.keys))
	wantDiff(t, "queued", n, stats(t, stores[0]).States[observer.Queued])
	together(racers/2, func(i int) {
		_, err := stores[i%len(stores)].InsertDeliveries(t.Context(), dead(1000+3*i), dead(1001+3*i), dead(1002+3*i))
		if err != nil && !errors.Is(err, observer.ErrFull) {
			t.Errorf("insert: %v", err)
		}
	})
	wantDiff(t, "dead", raceCap/3*3, stats(t, stores[0]).States[observer.Dead])
}
