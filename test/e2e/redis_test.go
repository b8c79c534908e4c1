//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
)

// redisSite is a site on PostgreSQL and Redis, with deduplication and the result
// cache.
type redisSite struct {
	*site

	redis *testenv.RedisServer
}

func newRedisSite(t *testing.T, text string) *redisSite {
	t.Helper()
	s := &redisSite{redis: testenv.PrivateRedis(t, testenv.RedisOptions{})}
	s.site = onPostgres.newSite(t, fmt.Sprintf("[redis]\nurl = %q\n[performance]\nenable_dedup = true\nenable_caching = true\nmax_concurrency = 1000\n",
		s.redis.URL())+text)
	password := passwordIn(t, s.redis.URL())
	t.Cleanup(func() {
		if strings.Contains(s.log(), password) {
			t.Error("the log has the password of Redis") // Invariant 9
		}
	})
	return s
}

// claimsIn waits until all agree that claims are made in Redis, or are not.
func (s *redisSite) claimsIn(redis bool) {
	s.t.Helper()
	s.store(func(store observer.StateStore) {
		slowly(s.t, fmt.Sprintf("claims in Redis: %t", redis), func() bool {
			v, err := store.DedupView(s.t.Context())
			if err != nil {
				s.t.Fatal(err)
			}
			return (v.Place == observer.DedupInFront && v.Agreed) == redis
		})
	})
}

// forget removes the checkpoint of a daemon that is stopped, so that every event
// is handed over once more.
func (s *redisSite) forget() {
	s.t.Helper()
	testenv.Exec(s.t, testenv.Connect(s.t, s.server), "DELETE FROM fraiseql_observer.tb_checkpoint")
}

// comesAgain stops the daemon, has everything handed over once more, and waits
// until all of it was.
func (s *redisSite) comesAgain() {
	s.t.Helper()
	s.stop()
	s.forget()
	s.start()
	s.handled()
	s.stop()
}

// handled waits until the checkpoint is at the end.
func (s *redisSite) handled() {
	s.t.Helper()
	slowly(s.t, "all is handled", func() bool { return s.behind(s.checkpoint().Position) == 0 })
}

// A daemon that is killed loses nothing and, with deduplication, repeats only
// what was under way, although every event since the beginning comes again after
// each kill.
func TestInvariant7SigkillRepeatsOnlyWhatWasUnderWay(t *testing.T) {
	t.Parallel()
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		if r.change.version%13 == 0 && r.attempt == 1 {
			return http.StatusServiceUnavailable
		}
		<-time.After(time.Duration(r.change.version%7) * 10 * time.Millisecond) // so that a kill finds some in flight
		return http.StatusOK
	})
	s := newRedisSite(t, noBreaker+hook("all", recv.url(), `retry = { max_attempts = 20, initial_delay_ms = 20, max_delay_ms = 50 }`))
	k := &killings{site: s.site, shop: newShop(s.site), recv: recv, afterwards: s.forget}
	k.shop.put(lone)
	s.start()
	s.claimsIn(true)
	s.stop()
	k.underLoad(r, 400, 5)
	poll(t, 100*time.Millisecond, 2*patience, "everything arrives", k.arrived)
	s.handled()
	s.stop()
	k.checkRepetitions(k.check(), lateMark)
}

// lone is an item that no load changes. Redis comes into use with the first event.
const lone = 100_000

// lateMark is how old an acceptance may be at a kill and still be repeated: its
// answer was not read or not remembered yet, which takes milliseconds, and seconds
// on a busy machine.
const lateMark = 5 * time.Second

// Invariant 8: the daemon goes on while its Redis is killed and starts again
// empty. Nothing is lost and nothing repeated, then or when all comes again.
func TestInvariant8RedisRestartedEmptyUnderTheDaemon(t *testing.T) {
	t.Parallel()
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		<-time.After(time.Duration(r.change.version%7) * 10 * time.Millisecond)
		return http.StatusOK
	})
	s := newRedisSite(t, hook("all", recv.url()))
	shop := newShop(s.site)
	s.start()
	stop := shop.load(r, 60, 200)
	s.claimsIn(true)
	s.redis.Stop(t)
	s.claimsIn(false)
	without := len(recv.receipts())
	eventually(t, "deliveries go on without Redis", func() bool { return len(recv.receipts()) > without+50 })
	s.redis.RestartEmpty(t)
	s.claimsIn(true)
	with := len(recv.receipts())
	eventually(t, "deliveries go on with Redis", func() bool { return len(recv.receipts()) > with+50 })
	stop()
	s.arrived(shop, recv)
	s.comesAgain()
	o := oracle{shop.all(), recv.receipts()}
	o.check(t)
	if list := o.repetitions(); len(list) > 0 {
		t.Errorf("%d of %d deliveries were repeated, the first is %+v", len(list), len(o.committed), list[0])
	}
	for _, line := range []string{"deduplication goes on without Redis", "deduplication uses Redis"} {
		if !strings.Contains(s.log(), line) {
			t.Errorf("the log does not say that %s", line)
		}
	}
}

// Invariant 6: of two actions only the one that failed runs again, also when the
// daemon is killed meanwhile and the event comes once more.
func TestInvariant6PartialFailureWithRedis(t *testing.T) {
	t.Parallel()
	const changes = 20
	var mended atomic.Bool
	recv := newReceiver(t, func(r receipt) int {
		if strings.HasSuffix(r.path, "/bad") && !mended.Load() {
			return http.StatusInternalServerError
		}
		return http.StatusOK
	})
	s := newRedisSite(t, noBreaker+hook("both", recv.url(),
		`retry = { max_attempts = 1000, initial_delay_ms = 200, max_delay_ms = 200, backoff_strategy = "fixed", inline_budget = "100ms" }`)+`
[[observers.actions]]
type = "webhook"
url = "`+recv.url()+`/bad"
`)
	shop := newShop(s.site)
	shop.put(1)
	s.start()
	s.claimsIn(true)
	for item := range int64(changes - 1) {
		shop.put(item + 2)
	}
	s.handled()
	s.kill()
	s.forget()
	s.start()
	s.handled()
	before := recv.count(accepted)
	eventually(t, "what failed is tried again", func() bool { return len(recv.receipts()) > before+3*changes })
	mended.Store(true)
	slowly(t, "what failed arrives", func() bool { return s.waiting() == 0 })
	s.comesAgain()
	times := map[string]int{}
	for _, r := range recv.receipts() {
		if accepted(r) {
			times[r.key]++
		}
	}
	good := recv.count(func(r receipt) bool { return strings.HasSuffix(r.path, "/both") })
	if good != changes || len(times) != 2*changes {
		t.Errorf("%d calls of the action that succeeds and %d deliveries, want %d and %d", good, len(times), changes, 2*changes)
	}
	for key, n := range times {
		if n != 1 {
			t.Errorf("%s was accepted %d times", key, n)
		}
	}
}

// TestEqualCallsAreMadeOncePerTTL: all changes of the load ask for an equal
// call, which is made anew only when the result of the last one is too old, by
// a daemon that was started since, too.
func TestEqualCallsAreMadeOncePerTTL(t *testing.T) {
	t.Parallel()
	const ttl, calls = 4 * time.Second, 3
	recv := newReceiver(t, ok)
	s := newRedisSite(t, hook("rebuild", recv.url())+fmt.Sprintf("body_template = '{}'\ncache = { ttl = %q }", ttl))
	shop := newShop(s.site)
	stop := shop.load(random(t), 60, 100)
	made := func(n int) {
		t.Helper()
		slowly(t, fmt.Sprintf("%d calls", n), func() bool { return recv.count(accepted) >= n })
	}
	s.start()
	made(1)
	s.stop()
	s.start()
	made(calls)
	stop()
	s.handled()
	s.stop()
	list := recv.receipts()
	for i, r := range list[1:] {
		if gap := r.at.Sub(list[i].at); gap < ttl {
			t.Errorf("call %d came %s after the one before it, want at least %s", i+2, gap, ttl)
		}
	}
	if done := strings.Count(s.log(), "cached=true"); len(list) > calls+1 || done < len(shop.all())-len(list) {
		t.Errorf("%d calls and %d results of others for %d changes", len(list), done, len(shop.all()))
	}
}
