//go:build unix

package e2e

import (
	"math"
	"net/http"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// backlog is how many deliveries wait for the endpoint that is dead. E2E_BACKLOG
// sets another number, such as 100000.
func backlog(t *testing.T) int {
	t.Helper()
	text := os.Getenv("E2E_BACKLOG")
	if text == "" {
		return 1500
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("E2E_BACKLOG: %v", err)
	}
	return n
}

// versions of each item wait, in strict order.
const waitingVersions = 10

// TestDeadEndpointRecovers has very many changes wait for an endpoint that
// fails, and mends it. They leave at a rate that grows, each once, and those of
// an entity in order.
func TestDeadEndpointRecovers(t *testing.T) {
	t.Parallel()
	onEach(t, deadEndpointRecovers)
}

func deadEndpointRecovers(t *testing.T, on flavour) {
	t.Helper()
	items := backlog(t) / waitingVersions
	all := items * waitingVersions
	long := patience + time.Duration(all)*5*time.Millisecond
	watch := newStrictWatch()
	recv := newReceiver(t, watch.answer)
	s := on.newSite(t, hook("all", recv.url(), `order = "strict"`,
		`retry = { max_attempts = 1000, initial_delay_ms = 500, max_delay_ms = 500, backoff_strategy = "fixed", inline_budget = "1s" }`))
	shop := newShop(s)
	s.start()
	shop.grow(items, waitingVersions)
	poll(t, 250*time.Millisecond, long, "all of them wait", func() bool {
		return s.behind(s.checkpoint().Position) == 0 && s.waiting() == all
	})
	if n := s.states()[observer.Parked]; n < all-items {
		t.Errorf("%d are parked, want all but the first of each entity: %d", n, all-items)
	}
	began := time.Now()
	poll(t, 250*time.Millisecond, patience, "it has failed for longer than a moment", func() bool { return time.Since(began) > 3*time.Second })
	watch.mended.Store(true)
	poll(t, 250*time.Millisecond, long, "all of them arrive", func() bool { return watch.count() >= all })
	poll(t, 250*time.Millisecond, patience, "all of them are done", func() bool { return s.states()[observer.Done] == all })
	s.stop()
	watch.check(t, items)
}

// strictWatch is a receiver that fails until it is mended. It keeps only what it
// needs of very many requests.
type strictWatch struct {
	mended atomic.Bool

	mu       sync.Mutex
	accepted []time.Time
	// next is the number of the version of each item that must come next.
	next       map[int64]int64
	outOfOrder []receipt
}

func newStrictWatch() *strictWatch { return &strictWatch{next: map[int64]int64{}} }

// answer sees requests of items whose versions are counted from 1.
func (w *strictWatch) answer(r receipt) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if r.change.version != w.next[r.change.item]+1 {
		w.outOfOrder = append(w.outOfOrder, r)
	}
	if !w.mended.Load() {
		return http.StatusServiceUnavailable
	}
	w.next[r.change.item]++
	w.accepted = append(w.accepted, time.Now())
	return http.StatusOK
}

func (w *strictWatch) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.accepted)
}

const (
	// rampRate is how many a second leave at first; the rate doubles every second.
	rampRate = 10
	// rampTime is how long the rate is bounded.
	rampTime = 10 * time.Second
	// atOnce is how many attempts may be under way at an endpoint that fails.
	atOnce = 6
)

func (w *strictWatch) check(t *testing.T, items int) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.outOfOrder) > 0 {
		t.Errorf("%d requests came out of order, the first is %+v", len(w.outOfOrder), w.outOfOrder[0])
	}
	for item := range int64(items) {
		if w.next[item+1] != waitingVersions {
			t.Fatalf("item %d: %d versions were accepted, want %d", item+1, w.next[item+1], waitingVersions)
		}
	}
	var seconds []int
	for n, at := range w.accepted {
		since := at.Sub(w.accepted[0])
		for int(since/time.Second) >= len(seconds) {
			seconds = append(seconds, 0)
		}
		seconds[int(since/time.Second)]++
		if most := rampRate*(math.Exp2(since.Seconds())-1)/math.Ln2 + atOnce; since < rampTime && float64(n) > most {
			t.Fatalf("%d were sent within %s of the recovery, want at most %.0f: %v", n, since, most, seconds)
		}
	}
	t.Logf("%d in %s, by second: %v", len(w.accepted), w.accepted[len(w.accepted)-1].Sub(w.accepted[0]), seconds)
	if slices.Max(seconds) < 4*seconds[0] {
		t.Errorf("the rate does not grow: %v", seconds)
	}
}
