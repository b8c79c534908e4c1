package topology_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/topology"
)

// cachingTo is a configuration with an action that calls url and caches.
func cachingTo(url, cache, more string) string {
	return "[performance]\nenable_caching = true\n" + more + observerTo("o", url, "") + "body_template = '{\"s\": \"{{ data.status }}\"}'\ncache = " + cache + "\n"
}

func handle(t *testing.T, built *topology.Topology, id, status string) {
	t.Helper()
	if err := built.Executor.Handle(t.Context(), order(id, status)); err != nil {
		t.Fatal(err)
	}
}

func ok(string) int { return http.StatusOK }

func TestEqualCallsAreMadeOnce(t *testing.T) {
	t.Parallel()
	for name, redis := range map[string]bool{"memory": false, "redis": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			more := ""
			if redis {
				more = "[redis]\nurl = \"" + testenv.Redis(t) + "\"\n"
			}
			s, r := newShop(t), newQuietReceiver(t, ok)
			built := build(t, s.parse(t, cachingTo(r.URL+"/a", `{ ttl = "1h" }`, more)))
			warm(t, built)
			before, failures := r.calls("/a"), built.Counters.Read().Cache.Failures
			for i := range 5 {
				handle(t, built, fmt.Sprint("paid", i), "paid")
				handle(t, built, fmt.Sprint("sent", i), "sent")
			}
			counts := built.Counters.Read()
			late := counts.Cache.Failures - failures // a busy machine
			if n := int64(r.calls("/a") - before); n < 2 || n > 2+late || counts.Cache.Hits != 10-n || counts.Dead != 0 {
				t.Errorf("%d calls, want 2; counted %+v", n, counts)
			}
			want := []middleware.ActionCacheCounts{{Observer: "o", CacheCounts: counts.Cache}}
			if diff := cmp.Diff(want, built.CacheStats()); diff != "" {
				t.Error(diff)
			}
			if redis { // another process takes its results
				other := build(t, s.parse(t, strings.Replace(cachingTo(r.URL+"/a", `{ ttl = "1h" }`, more), "[performance]", "[state]\nurl = \"sqlite:other.db\"\n[performance]", 1)))
				warm(t, other)
				before, was := r.calls("/a"), other.Counters.Read().Cache
				handle(t, other, "elsewhere", "paid")
				now := other.Counters.Read().Cache
				if n := r.calls("/a") - before; now.Failures == was.Failures && (n != 0 || now.Hits != was.Hits+1) {
					t.Errorf("another process: %d calls, counted %+v, before %+v", n, now, was)
				}
			}
		})
	}
}

// newQuietReceiver is a receiver of any number of calls, that nobody awaits.
func newQuietReceiver(t *testing.T, answer func(path string) int) *receiver {
	t.Helper()
	r := newReceiver(t, answer)
	go func() {
		for {
			select {
			case <-r.came:
			case <-t.Context().Done():
				return
			}
		}
	}()
	return r
}

// warm handles events until the cache has been reached: while it connects,
// everything is sent.
func warm(t *testing.T, built *topology.Topology) {
	t.Helper()
	for i := range 1000 {
		before := built.Counters.Read().Cache.Failures
		handle(t, built, fmt.Sprint("warm", i), fmt.Sprint("warm", i))
		if built.Counters.Read().Cache.Failures == before {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatal("the cache was not reached")
}

// Invariant 8: a Redis that is away loses nothing.
func TestInvariant8ResultCacheAwayLosesNothing(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	s, r := newShop(t), newQuietReceiver(t, ok)
	built := build(t, s.parse(t, cachingTo(r.URL+"/a", `{ ttl = "1h" }`, "[redis]\nurl = \""+server.URL()+"\"\n")))
	warm(t, built)
	for _, trouble := range []struct {
		what       string
		harm, mend func(testing.TB)
	}{{"stopped", server.Stop, server.Restart}, {"paused", server.Pause, server.Resume}} {
		trouble.harm(t)
		before, calls := built.Counters.Read(), r.calls("/a")
		for i := range 20 {
			handle(t, built, fmt.Sprint(trouble.what, i), trouble.what)
		}
		after := built.Counters.Read()
		if after.Done-before.Done != 20 || after.Dead+after.Scheduled != 0 || r.calls("/a")-calls != 20 {
			t.Errorf("%s: %d calls for 20 deliveries, %+v, before %+v", trouble.what, r.calls("/a")-calls, after, before)
		}
		if after.Cache.Misses-before.Cache.Misses != 20 || after.Cache.Failures == before.Cache.Failures {
			t.Errorf("%s: counted %+v, before %+v", trouble.what, after.Cache, before.Cache)
		}
		trouble.mend(t)
	}
	deadline := time.Now().Add(20 * time.Second)
	for i := 0; built.Counters.Read().Cache.Hits == 0 && time.Now().Before(deadline); i++ {
		handle(t, built, fmt.Sprint("back", i), "back")
		<-time.After(time.Millisecond)
	}
	server.Command(t, "FLUSHALL")
	calls := r.calls("/a")
	for i := 0; r.calls("/a") == calls && time.Now().Before(deadline); i++ {
		handle(t, built, fmt.Sprint("flushed", i), "back")
	}
	if counts := built.Counters.Read(); r.calls("/a") != calls+1 || counts.Dead+counts.Scheduled != 0 {
		t.Errorf("flushed: %d calls, want 1; %+v", r.calls("/a")-calls, counts)
	}
}

func TestARedriveIsSentWhateverIsCached(t *testing.T) {
	t.Parallel()
	answer := http.StatusBadRequest
	s, r := newShop(t), newQuietReceiver(t, func(string) int { return answer })
	built := build(t, s.parse(t, cachingTo(r.URL+"/a", `{ ttl = "1h" }`, "")))
	handle(t, built, "dead", "paid")
	answer = http.StatusOK
	handle(t, built, "first", "paid")
	handle(t, built, "second", "paid")
	if n := r.calls("/a"); n != 2 {
		t.Fatalf("%d calls, want one that failed and one that succeeded", n)
	}
	dead := awaitDead(t, built.Store)
	d, err := delivery.Redrive(t.Context(), delivery.RedriveConfig{Store: built.Store, Run: built.RunStored, Owner: "test"}, dead[0].Key)
	if err != nil || d.State != observer.Done || d.Attempts[len(d.Attempts)-1].Cached || r.calls("/a") != 3 {
		t.Errorf("%+v, error %v, %d calls", d, err, r.calls("/a"))
	}
}

func TestAHitFromTheStoreSaysSo(t *testing.T) {
	t.Parallel()
	s, r := newShop(t), newQuietReceiver(t, ok)
	built := build(t, s.parse(t, cachingTo(r.URL+"/a", `{ ttl = "1h", key = "all" }`, "")))
	handle(t, built, "first", "paid")
	for _, id := range []string{"stored", "again"} {
		d := observer.NewDelivery(order(id, "other"), "o", 0, "webhook")
		d.State = observer.Running
		if err := built.RunStored(t.Context(), d); err != nil {
			t.Fatal(err)
		}
		last := d.Attempts[len(d.Attempts)-1]
		if d.State != observer.Done || len(d.Attempts) != 1 || !last.Cached || last.Status != 0 || !strings.HasPrefix(last.Detail, "cached result of ") {
			t.Errorf("%s: %+v", d.State, d.Attempts)
		}
	}
	if n := r.calls("/a"); n != 1 {
		t.Errorf("%d calls", n)
	}
}
