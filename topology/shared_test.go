package topology

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/internal/testenv"
	memorystore "github.com/fraiseql/observer/store/memory"
	"github.com/fraiseql/observer/store/redis"
)

func openRedis(t *testing.T, url string) *redis.Client {
	t.Helper()
	client, err := redis.New(redis.Config{URL: observer.NewSecret(url), CommandTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func newStore() *counting { return &counting{Store: memorystore.New(memorystore.Config{})} }

// sharing starts one process for each store, which share their limits and their
// receiver. Each has reached Redis when it returns.
func sharing(t *testing.T, url string, limits config.Limits, h *hook, stores ...*counting) []*daemon {
	t.Helper()
	return sharingFor(t, place{url, patient}, limits, h, stores...)
}

// patient has a busy machine not look like a Redis that is away.
const patient = time.Minute

type place struct {
	url      string
	patience time.Duration
}

func sharingFor(t *testing.T, at place, limits config.Limits, h *hook, stores ...*counting) []*daemon {
	t.Helper()
	var all []*daemon
	for i, store := range stores {
		m := &daemon{store: store, hook: h, n: i * 1000, patience: at.patience}
		m.start(t, config.Config{Limits: limits}, retrying(), nil, openRedis(t, at.url))
		t.Cleanup(func() {
			m.stop()
			_ = m.top.limiter.Close()
		})
		reach(t, m.top.limiter)
		all = append(all, m)
	}
	return all
}

func reach(t *testing.T, l *redis.Limiter) {
	t.Helper()
	until(t, func() bool {
		g, err := l.Take(t.Context(), redis.Turn{Endpoint: "reach"})
		return g.OK && err == nil
	})
}

func until(t *testing.T, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it did not come about")
		}
	}
}

// flood has each process handle n events, and waits until all are done.
func flood(t *testing.T, all []*daemon, n int) {
	t.Helper()
	var running sync.WaitGroup
	for _, m := range all {
		running.Go(func() { m.handle(t, n) })
	}
	running.Wait()
	until(t, func() bool {
		for _, m := range all {
			for state, n := range m.states(t) {
				if n > 0 && !state.Finished() {
					return false
				}
			}
		}
		return true
	})
}

func TestLimitsHoldForAllProcessesTogether(t *testing.T) {
	t.Parallel()
	one := newStore()
	for name, tt := range map[string]struct {
		limits config.Limits
		takes  time.Duration
		stores []*counting
	}{
		"concurrency":               {config.Limits{MaxConcurrent: 3}, 20 * time.Millisecond, []*counting{one, one}},
		"rate":                      {config.Limits{Rate: 50, Burst: 5}, time.Millisecond, []*counting{newStore(), newStore()}},
		"both":                      {config.Limits{MaxConcurrent: 2, Rate: 60, Burst: 5}, 30 * time.Millisecond, []*counting{newStore(), newStore()}},
		"concurrency, stores apart": {config.Limits{MaxConcurrent: 2}, 20 * time.Millisecond, []*counting{newStore(), newStore()}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := &hook{endpoint: "e", takes: tt.takes, began: time.Now()}
			all := sharing(t, testenv.Redis(t), tt.limits, h, tt.stores...)
			began := time.Now()
			flood(t, all, 60)
			t.Logf("took %s, %d writes", time.Since(began), tt.stores[0].written())
			h.mu.Lock()
			defer h.mu.Unlock()
			if len(h.came) != 120 {
				t.Errorf("%d calls of 120", len(h.came))
			}
			if c := tt.limits.MaxConcurrent; c > 0 && (h.most > c || h.most < c) {
				t.Errorf("%d at once, want %d", h.most, c)
			}
			if tt.limits.Rate > 0 {
				l := tt.limits
				l.Burst += 15 // a busy machine holds one up and not the next
				checkRate(t, h.came, l)
			}
			if n := alone(all); n != 0 {
				t.Errorf("%d attempts without Redis", n)
			}
		})
	}
}

// Where others use the whole limit nobody asks in a loop, nothing is written to
// and fro, and everything is sent when there is room again.
func TestLimitThatOthersUseUpCostsNothing(t *testing.T) {
	t.Parallel()
	for name, limits := range map[string]config.Limits{"concurrency": {MaxConcurrent: 20}, "rate": {Rate: 20, Burst: 20}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateRedis(t, testenv.RedisOptions{})
			h := &hook{endpoint: "e", takes: time.Millisecond, began: time.Now()}
			all := sharing(t, server.URL(), limits, h, newStore())
			other := redis.NewLimiter(openRedis(t, server.URL()), redis.LimiterConfig{})
			t.Cleanup(func() { _ = other.Close() })
			reach(t, other)
			var held []redis.Grant
			turn := redis.Turn{Endpoint: "e", MaxConcurrent: limits.MaxConcurrent, Rate: limits.Rate, Burst: limits.Burst}
			for range 20 {
				g, err := other.Take(t.Context(), turn)
				if err != nil || !g.OK {
					t.Fatalf("%+v, error %v", g, err)
				}
				held = append(held, g)
			}
			all[0].handle(t, 1)
			h.calls()
			all[0].store.written()
			server.Command(t, "CONFIG", "RESETSTAT")
			const watched = 3 * time.Second
			stop := make(chan struct{})
			time.AfterFunc(watched, func() { close(stop) })
			flooding := make(chan struct{})
			go func() { defer close(flooding); flood(t, all, 100) }()
			<-stop
			if limits.MaxConcurrent > 0 {
				if n := h.calls(); n != 0 {
					t.Errorf("%d calls", n)
				}
			}
			asked, written := scriptCalls(t, server), all[0].store.written()
			t.Logf("asked %d times, %d writes", asked, written)
			if most := 40 + int(limits.Rate)*4; asked > most || written > most+100 {
				t.Errorf("asked %d times, %d writes in %s", asked, written, watched)
			}
			for _, g := range held {
				other.Give(t.Context(), g, true)
			}
			<-flooding
			all[0].attempts(t, 1)
		})
	}
}

// scriptCalls are the scripts that were run since the last reset.
func scriptCalls(t *testing.T, server *testenv.RedisServer) (n int) {
	t.Helper()
	stats, _ := server.Command(t, "INFO", "commandstats").(string)
	if _, rest, ok := strings.Cut(stats, "cmdstat_evalsha:calls="); ok {
		_, _ = fmt.Sscan(strings.ReplaceAll(rest[:10], ",", " "), &n)
	}
	return n
}

// Invariant 8: Redis may be away, hang and come back under load. Attempts go on
// under the limits of each process, and then under those of all together.
func TestInvariant8LimitsOutliveRedis(t *testing.T) {
	t.Parallel()
	for name, harm := range map[string]struct {
		away, back func(*testenv.RedisServer, testing.TB)
	}{
		"killed": {(*testenv.RedisServer).Stop, (*testenv.RedisServer).Restart},
		"paused": {(*testenv.RedisServer).Pause, (*testenv.RedisServer).Resume},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const limit = 3
			server := testenv.PrivateRedis(t, testenv.RedisOptions{})
			h := &hook{endpoint: "e", takes: 10 * time.Millisecond, began: time.Now()}
			all := sharingFor(t, place{server.URL(), 0}, config.Limits{MaxConcurrent: limit}, h, newStore(), newStore())
			flood(t, all, 50)
			if n := h.peak(); n > limit && alone(all) == 0 { // a busy machine looks like a Redis that is away
				t.Errorf("%d at once", n)
			}
			harm.away(server, t)
			for range 3 {
				began := time.Now()
				flood(t, all, 50)
				t.Logf("away: took %s", time.Since(began))
				if took := time.Since(began); took > 10*time.Second {
					t.Errorf("it took %s", took)
				}
			}
			if n := h.peak(); n > 2*limit || n <= limit {
				t.Errorf("%d at once without Redis", n)
			}
			harm.back(server, t)
			for _, m := range all {
				reach(t, m.top.limiter)
			}
			if alone(all) == 0 {
				t.Error("nothing was counted")
			}
			before := alone(all)
			flood(t, all, 50)
			if n := h.peak(); n > limit && alone(all) == before {
				t.Errorf("%d at once when Redis is back", n)
			}
			if n := h.calls(); n != 2*5*50 {
				t.Errorf("%d calls, want one for each event", n)
			}
		})
	}
}

// alone are the attempts that were made without Redis so far.
func alone(all []*daemon) (n int64) {
	for _, m := range all {
		n += m.top.Counters.Read().LimitsAlone
	}
	return n
}

// peak is the most at once since the last time.
func (h *hook) peak() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := h.most
	h.most = h.now
	return n
}

// What a person asks for passes, whoever uses the limit.
func TestRedriveIsNotLimitedByOthers(t *testing.T) {
	t.Parallel()
	h := &hook{endpoint: "e", began: time.Now()}
	url := testenv.Redis(t)
	m := sharing(t, url, config.Limits{MaxConcurrent: 1}, h, newStore())[0]
	if g, err := m.top.limiter.Take(t.Context(), redis.Turn{Endpoint: "e", MaxConcurrent: 1}); err != nil || !g.OK {
		t.Fatal(err)
	}
	d := observer.NewDelivery(&observer.Event{ID: "e", Operation: observer.Insert}, "o", 0, "test")
	d.Endpoint, d.ClaimedFrom, d.State = "e", observer.Dead, observer.Running
	if err := m.top.RunStored(t.Context(), d); err != nil || d.State != observer.Done {
		t.Errorf("%s, error %v", d.State, err)
	}
}
