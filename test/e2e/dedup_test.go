//go:build unix

package e2e_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/dedup"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/middleware"
	"github.com/fraiseql/observer/store/postgres"
	"github.com/fraiseql/observer/store/redis"
)

// redisFront is Redis as deduplication sees it.
type redisFront struct{ *redis.Client }

func (f redisFront) Dedup(epoch string) observer.DedupStore { return f.Client.Dedup(epoch) }

// handlings is a first pass that knows how often each delivery was handled.
type handlings struct {
	mu    sync.Mutex
	times map[string]int
	busy  map[string]bool
	twice []string
}

func (h *handlings) Execute(_ context.Context, d *observer.Delivery) (observer.Result, error) {
	h.mu.Lock()
	if h.times[d.Key]++; h.busy[d.Key] {
		h.twice = append(h.twice, d.Key)
	}
	h.busy[d.Key] = true
	h.mu.Unlock()
	<-time.After(time.Duration(rand.IntN(20)) * time.Millisecond)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.busy[d.Key] = false
	return observer.Result{}, nil
}

// rig is two processes over one Redis and one state store, under load.
type rig struct {
	server   *testenv.RedisServer
	state    *postgres.Store
	pass     *handlings
	counters middleware.Counters
	runs     []observer.Action
	events   atomic.Int64
	slowest  atomic.Int64
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{server: testenv.PrivateRedis(t, testenv.RedisOptions{}), pass: &handlings{times: map[string]int{}, busy: map[string]bool{}}}
	url := observer.NewSecret(testenv.Database(t))
	for n := range 2 {
		store, err := postgres.Open(t.Context(), postgres.Config{URL: url})
		if err != nil {
			t.Fatal(err)
		}
		client, err := redis.New(redis.Config{URL: observer.NewSecret(r.server.URL()), CommandTimeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		session, logger := fmt.Sprintf("process %d", n), slog.New(slog.DiscardHandler)
		both := dedup.New(dedup.Config{
			State: store, Front: redisFront{client}, Session: session, Keep: time.Hour, Bypassed: r.counters.Bypassed, Logger: logger,
		})
		t.Cleanup(func() {
			if err := both.Close(); err != nil {
				t.Error(err)
			}
			_ = client.Close()
			_ = store.Close()
		})
		r.state = store
		r.runs = append(r.runs, middleware.Dedup{
			Store: both, Owner: session, Lease: 30 * time.Second, Keep: time.Hour, Counters: &r.counters, Logger: logger,
		}.Middleware()(r.pass))
	}
	return r
}

// deliver hands an event to a process.
func (r *rig) deliver(t *testing.T, event int64, process int) {
	t.Helper()
	d := observer.NewDelivery(&observer.Event{ID: fmt.Sprintf("event-%d", event), TenantID: "t"}, "notify", 0, "webhook")
	began := time.Now()
	if _, err := r.runs[process].Execute(context.WithoutCancel(t.Context()), d); err != nil {
		t.Errorf("%s: %v", d.Key, err)
	}
	for took := int64(time.Since(began)); ; {
		slowest := r.slowest.Load()
		if took <= slowest || r.slowest.CompareAndSwap(slowest, took) {
			return
		}
	}
}

// load delivers new events and, more often, old ones again, to both processes at
// any time, until it is stopped.
func (r *rig) load(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var delivering sync.WaitGroup
	for worker := range 16 {
		delivering.Go(func() {
			for ctx.Err() == nil {
				event := r.events.Load() - rand.Int64N(50)
				if event < 0 || rand.IntN(3) == 0 {
					event = r.events.Add(1)
				}
				r.deliver(t, event, worker%2)
				<-time.After(2 * time.Millisecond)
			}
		})
	}
	return func() {
		cancel()
		delivering.Wait()
	}
}

// place waits until claims are made in a place or no longer there.
func (r *rig) place(t *testing.T, want bool) {
	t.Helper()
	for deadline := time.Now().Add(90 * time.Second); time.Now().Before(deadline); {
		v, err := r.state.DedupView(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if (v.Place == observer.DedupInFront && v.Agreed) == want {
			return
		}
		<-time.After(20 * time.Millisecond)
	}
	t.Fatalf("claims in Redis: want %v", want)
}

func wait(d time.Duration) { <-time.After(d) }

// Invariant 8: whatever becomes of a real Redis under load, deliveries go on,
// none is lost and none is repeated, and Redis is used again afterwards.
func TestInvariant8OutagesOfRedisLoseAndRepeatNothing(t *testing.T) {
	t.Parallel()
	for name, outage := range map[string]func(t *testing.T, s *testenv.RedisServer){
		"killed": func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Stop(t)
			wait(2 * time.Second)
			s.Restart(t)
		},
		"paused": func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Pause(t)
			wait(2 * time.Second)
			s.Resume(t)
		},
		"flushed":         func(t *testing.T, s *testenv.RedisServer) { t.Helper(); s.Command(t, "FLUSHALL") },
		"restarted empty": func(t *testing.T, s *testenv.RedisServer) { t.Helper(); s.RestartEmpty(t) },
		"read-only": func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Command(t, "REPLICAOF", "127.0.0.1", "1")
			wait(2 * time.Second)
			s.Command(t, "REPLICAOF", "NO", "ONE")
		},
		"full": func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Config(t, "maxmemory", "1")
			wait(2 * time.Second)
			s.Config(t, "maxmemory", "0")
		},
		"evicting": func(t *testing.T, s *testenv.RedisServer) {
			t.Helper()
			s.Config(t, "maxmemory-policy", "allkeys-lru")
			s.Config(t, "maxmemory", "3mb")
			for i := range 200 { // somebody else's data
				s.Command(t, "SET", fmt.Sprintf("other:%d", i), strings.Repeat("x", 20_000))
			}
			wait(time.Second)
			s.Config(t, "maxmemory", "0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			stop := r.load(t)
			r.place(t, true)
			wait(time.Second)
			before := r.counters.Read().DedupBypassed
			outage(t, r.server)
			r.place(t, false)
			r.place(t, true)
			wait(time.Second)
			stop()
			all := r.events.Load()
			for event := int64(1); event <= all; event++ {
				r.deliver(t, event, int(event%2))
			}
			r.verdict(t, all, r.counters.Read().DedupBypassed-before)
		})
	}
}

func (r *rig) verdict(t *testing.T, all, bypassed int64) {
	t.Helper()
	lost, repeated := 0, 0
	for event := int64(1); event <= all; event++ {
		switch n := r.pass.times[fmt.Sprintf("event-%d/notify/0", event)]; {
		case n == 0:
			lost++
		case n > 1:
			repeated += n - 1
		}
	}
	slowest := time.Duration(r.slowest.Load())
	t.Logf("%d events, %d duplicates, %d claims without Redis, slowest %s; lost %d, repeated %d",
		all, r.counters.Read().DedupSkipped, bypassed, slowest.Round(time.Millisecond), lost, repeated)
	if lost > 0 || repeated > 0 || len(r.pass.twice) > 0 || all < 100 {
		t.Errorf("of %d events %d were lost and %d repeated, %d at once", all, lost, repeated, len(r.pass.twice))
	}
	if slowest > 15*time.Second {
		t.Errorf("a delivery waited for %s", slowest)
	}
	if bypassed == 0 {
		t.Error("nothing was counted as bypassed")
	}
}
