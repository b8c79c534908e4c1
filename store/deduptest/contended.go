package deduptest

import (
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

// claimers is how many compete.
const claimers = 64

func manyKeys(prefix string, n int) []string {
	keys := make([]string, n)
	for i := range keys {
		keys[i] = prefix + strconv.Itoa(i)
	}
	return keys
}

// testContended: of many that ask at once for each of some keys one gets it.
func testContended(t *testing.T, s Subject) {
	keys := manyKeys("k", 20)
	got := make([]atomic.Int32, len(keys))
	var asking sync.WaitGroup
	for n := range claimers {
		asking.Go(func() {
			for i, key := range keys {
				answer, err := s.Store.ClaimDedup(t.Context(), claimOf(key, strconv.Itoa(n)), lease)
				if err != nil {
					t.Errorf("claim %s: %v", key, err)
				}
				if answer.Standing == observer.DedupClaimed {
					got[i].Add(1)
				}
			}
		})
	}
	asking.Wait()
	for i, key := range keys {
		if n := got[i].Load(); n != 1 {
			t.Errorf("%s was claimed by %d at once", key, n)
		}
	}
}

// oracle knows what really happened to the keys.
type oracle struct {
	mu      sync.Mutex
	holders map[string]int // that believe they may handle it
	done    map[string]int
	errors  []string
}

func (o *oracle) begin(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.holders[key]++; o.holders[key] > 1 {
		o.errors = append(o.errors, key+" was handled by two at once")
	}
	if o.done[key] > 0 {
		o.errors = append(o.errors, key+" was handled again after it was done")
	}
}

// crash is the end of a handling that died: it was doing nothing any more
// before its lease ended.
func (o *oracle) crash(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holders[key]--
}

func (o *oracle) finish(key string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.holders[key]--
	o.done[key]++
}

// testCrashes has many handle the same keys, of which some die in the middle and
// some fail. Each key is done exactly once in the end, and nobody ever handles
// what another one does.
func testCrashes(t *testing.T, s Subject) {
	const seed = 7
	keys := manyKeys("k", 40)
	o := &oracle{holders: map[string]int{}, done: map[string]int{}}
	var working sync.WaitGroup
	for n := range claimers {
		random := rand.New(rand.NewPCG(seed, uint64(n))) //nolint:gosec // a test that can be repeated
		working.Go(func() {
			for _, i := range random.Perm(len(keys)) {
				s.handle(t, o, keys[i], strconv.Itoa(n), random)
			}
		})
	}
	working.Wait()
	// Those whose handlings all died are done by whoever comes next.
	s.Pass(20 * s.Unit)
	for _, key := range keys {
		if answer := s.claim(t, key, "last", lease); answer.Standing == observer.DedupClaimed {
			o.begin(key)
			o.finish(key)
		}
	}
	for _, key := range keys {
		if o.done[key] != 1 {
			t.Errorf("%s was done %d times", key, o.done[key])
		}
	}
	for _, e := range o.errors {
		t.Error(e)
	}
}

// handle tries one key a few times.
func (s Subject) handle(t *testing.T, o *oracle, key, owner string, random *rand.Rand) {
	for try := range 3 {
		c := claimOf(key, owner+"-"+strconv.Itoa(try))
		hold := 20 * s.Unit
		began := time.Now()
		answer, err := s.Store.ClaimDedup(t.Context(), c, hold)
		if err != nil {
			t.Errorf("claim %s: %v", key, err)
			return
		}
		if answer.Standing != observer.DedupClaimed || time.Since(began) > hold/2 {
			continue // a machine this slow may have lost the claim already
		}
		o.begin(key)
		switch random.IntN(4) {
		case 0: // dies, and its lease ends by itself
			o.crash(key)
			return
		case 1:
			o.crash(key)
			err = s.Store.ReleaseDedup(t.Context(), c)
		default:
			o.finish(key)
			err = s.Store.FinishDedup(t.Context(), observer.DedupMark{Key: key, Keep: lease})
		}
		if err != nil {
			t.Errorf("end of %s: %v", key, err)
		}
	}
}
