//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// claimed is how much earlier than the claims of a killed process end everything
// has to have arrived that it had begun. They are fresh when it is killed, and end
// after 30 seconds.
const claimed = 15 * time.Second

// few is for how many events a daemon has room at a time.
const few = 4

// dedupText turns deduplication on, with little room. An attempt of the first pass
// keeps its place for as long as it takes.
func dedupText(recv *receiver, more string) string {
	return more + fmt.Sprintf("[performance]\nenable_dedup = true\nmax_concurrency = %d\n", few) +
		noBreaker + webhook("all", recv.url(), `retry = { inline_budget = "30s" }`, "")
}

// TestClaimsOfADeadReaderHoldUpNobody kills a daemon while it has begun as much as
// it may. Whoever takes over handles that again as soon as it has the lease, and does
// not fill its own places with waiting for the claims of the dead one.
func TestClaimsOfADeadReaderHoldUpNobody(t *testing.T) {
	t.Parallel()
	onEach(t, func(t *testing.T, on flavour) {
		t.Helper()
		claimsHoldUpNobody(t, func(recv *receiver) *site { return on.newSite(t, dedupText(recv, "")) }, func(*site) {})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		redis := testenv.PrivateRedis(t, testenv.RedisOptions{})
		claimsHoldUpNobody(t, func(recv *receiver) *site {
			return onPostgres.newSite(t, dedupText(recv, fmt.Sprintf("[redis]\nurl = %q\n", redis.URL())))
		}, func(s *site) { (&redisSite{s, redis}).claimsIn(true) })
	})
}

func claimsHoldUpNobody(t *testing.T, siteOf func(*receiver) *site, ready func(*site)) {
	t.Helper()
	var recv *receiver
	recv = newReceiver(t, func(r receipt) int {
		if r.run == 1 && r.change.item != lone {
			recv.hold(nil)
		}
		return http.StatusOK
	})
	s := siteOf(recv)
	shop := newShop(s)
	reading, standing := s.pair()
	shop.put(lone)
	s.arrived(shop, recv)
	ready(s)
	for item := range int64(10 * few) {
		shop.put(item + 1)
	}
	eventually(t, "requests are under way", func() bool { return recv.count(func(r receipt) bool { return r.run == reading.run }) > few/2 })
	reading.crash()
	for item := range int64(10 * few) {
		shop.put(1000 + item)
	}
	standing.logs("lease taken", "lease=database/"+sourceName)
	taken := time.Now()
	s.arrived(shop, recv)
	if took := time.Since(taken); took > claimed {
		t.Errorf("everything had arrived %s after the take-over, want less than %s", took, claimed)
	} else {
		t.Logf("everything had arrived %s after the take-over", took)
	}
}

// TestClaimsOfADeadWorkerHoldUpNobody does the same to a worker of a stream, whose
// partitions have places in common with those that the other worker reads already.
func TestClaimsOfADeadWorkerHoldUpNobody(t *testing.T) {
	t.Parallel()
	var dead *member
	var recv *receiver
	recv = newReceiver(t, func(r receipt) int {
		if r.run == dead.runs {
			recv.hold(nil)
		}
		return http.StatusOK
	})
	f := newFleet(t, testenv.NATS(t), recv, dedupText(recv, ""))
	f.databases(onSQLite)
	f.crew(1, 2)
	dead = f.workers[0]
	f.start()
	other := f.workers[1]
	slowly(t, "each worker reads half of the partitions", func() bool { return dead.partitions() == 6 && other.partitions() == 6 })
	item := int64(0)
	eventually(t, "requests are under way", func() bool {
		item++
		f.bases[0].put(item)
		return recv.count(func(r receipt) bool { return r.run == dead.runs }) >= few
	})
	dead.kill()
	slowly(t, "the other worker reads all partitions", func() bool { return other.partitions() == 12 })
	taken := time.Now()
	for range 10 * few {
		item++
		f.bases[0].put(item)
	}
	f.arrived()
	if took := time.Since(taken); took > claimed {
		t.Errorf("everything had arrived %s after the take-over, want less than %s", took, claimed)
	} else {
		t.Logf("everything had arrived %s after the take-over", took)
	}
}

// partitions counts those that a worker reads.
func (m *member) partitions() (n int) {
	m.t.Helper()
	host, _ := os.Hostname()
	m.store(func(store observer.StateStore) {
		all, err := store.Leases(m.t.Context(), "nats/")
		if err != nil {
			m.t.Fatal(err)
		}
		for _, l := range all {
			if l.Running() && strings.Count(l.Name, "/") == 3 && strings.HasPrefix(l.Holder, fmt.Sprintf("%s/%d/", host, m.daemon.Process.Pid)) {
				n++
			}
		}
	})
	return n
}
