package redis_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/redis"
)

// newLimiter is patient: a busy machine must not look like a server that is away.
func newLimiter(t testing.TB, url string, cfg redis.LimiterConfig) *redis.Limiter {
	t.Helper()
	if cfg.Patience == 0 {
		cfg.Patience = 10 * time.Second
	}
	l := redis.NewLimiter(newClient(t, url), cfg)
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// take asks a server that answers.
func take(t testing.TB, l *redis.Limiter, turn redis.Turn) redis.Grant {
	t.Helper()
	g, err := l.Take(t.Context(), turn)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// grants gives what was given of n turns.
func grants(t testing.TB, l *redis.Limiter, n int, turn redis.Turn) (given []redis.Grant) {
	t.Helper()
	for range n {
		if g := take(t, l, turn); g.OK {
			given = append(given, g)
		} else if g.Wait != 0 && turn.Rate == 0 {
			t.Errorf("to wait %s for a slot", g.Wait)
		}
	}
	return given
}

func TestSlotsAreSharedByProcesses(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newLimiter(t, url, redis.LimiterConfig{}), newLimiter(t, url, redis.LimiterConfig{})
	turn := redis.Turn{Endpoint: "e", MaxConcurrent: 3}
	held := grants(t, one, 2, turn)
	if n := len(grants(t, other, 2, turn)); n != 1 {
		t.Errorf("%d slots for another process, want the last", n)
	}
	if g := take(t, one, redis.Turn{Endpoint: "elsewhere", MaxConcurrent: 1}); !g.OK {
		t.Error("another endpoint is not apart")
	}
	one.Give(t.Context(), held[0], true)
	one.Give(t.Context(), held[1], false)
	if n := len(grants(t, other, 5, turn)); n != 2 {
		t.Errorf("%d slots after two were given back", n)
	}
}

// A process that is always refused comes before one that has just had its turn.
func TestWhoWaitsForLongGoesFirst(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newLimiter(t, url, redis.LimiterConfig{}), newLimiter(t, url, redis.LimiterConfig{})
	turn := redis.Turn{Endpoint: "e", MaxConcurrent: 1}
	held, waiting := take(t, one, turn), turn
	waiting.Starved = true
	if take(t, other, waiting).OK {
		t.Fatal("two slots of one")
	}
	one.Give(t.Context(), held, true)
	if take(t, one, turn).OK {
		t.Error("it took its turn before one that waits for long")
	}
	g := take(t, other, waiting)
	if !g.OK {
		t.Fatal("nobody got the slot")
	}
	other.Give(t.Context(), g, true)
	if g = take(t, one, turn); !g.OK {
		t.Error("it waits for one that has had its turn")
	}
	one.Give(t.Context(), g, true)
	held = take(t, one, turn)
	take(t, other, waiting) // and then never comes again
	one.Give(t.Context(), held, true)
	eventually(t, func() bool { return take(t, one, turn).OK })
}

// The slots of a process that died are free when their leases end, not before, and
// those of one that lives stay.
func TestSlotsOfTheDead(t *testing.T) {
	t.Parallel()
	const lease = time.Second
	url := testenv.Redis(t)
	one, dead := newLimiter(t, url, redis.LimiterConfig{Lease: lease}), newLimiter(t, url, redis.LimiterConfig{Lease: lease})
	turn := redis.Turn{Endpoint: "e", MaxConcurrent: 3}
	if n := len(grants(t, one, 1, turn)); n != 1 {
		t.Fatal("no slot")
	}
	began := time.Now()
	if n := len(grants(t, dead, 2, turn)); n != 2 {
		t.Fatalf("%d slots", n)
	}
	if err := dead.Close(); err != nil { // nobody renews them any more
		t.Error(err)
	}
	var third redis.Grant
	eventually(t, func() bool { third = take(t, one, turn); return third.OK })
	if took := time.Since(began); took < lease {
		t.Errorf("free after %s", took)
	}
	<-time.After(2 * lease)
	if n := len(grants(t, newLimiter(t, url, redis.LimiterConfig{}), 3, turn)); n != 1 {
		t.Errorf("%d slots beside two that are held", n)
	}
}

func TestTokensAreSharedByProcesses(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newLimiter(t, url, redis.LimiterConfig{}), newLimiter(t, url, redis.LimiterConfig{})
	turn := redis.Turn{Endpoint: "e", Rate: 0.1, Burst: 3}
	held := grants(t, one, 2, turn)
	if a, b := grants(t, other, 2, turn), grants(t, one, 1, turn); len(held) != 2 || len(a) != 1 || len(b) != 0 {
		t.Errorf("%d, %d and %d tokens of three", len(held), len(a), len(b))
	}
	if g := take(t, one, turn); g.OK || g.Wait < 9*time.Second || g.Wait > 10*time.Second {
		t.Errorf("%+v, want to come again in 10 s", g)
	}
	one.Give(t.Context(), held[0], true)
	one.Give(t.Context(), held[1], false)
	if n := len(grants(t, other, 2, turn)); n != 1 {
		t.Errorf("%d tokens after one was not used", n)
	}
	ahead := turn
	ahead.Rate, ahead.Endpoint, ahead.Ahead = 10, "other", 250*time.Millisecond
	given := grants(t, one, 10, ahead)
	if len(given) < 5 || given[2].Wait != 0 || given[4].Wait < 100*time.Millisecond || given[4].Wait > 200*time.Millisecond {
		t.Errorf("tokens of later: %+v", given)
	}
}

// Who gets no slot takes no token, and the other way round.
func TestATurnIsTakenAsAWhole(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	one, other := newLimiter(t, url, redis.LimiterConfig{}), newLimiter(t, url, redis.LimiterConfig{})
	both := redis.Turn{Endpoint: "both", Rate: 0.1, Burst: 3, MaxConcurrent: 1}
	g := grants(t, one, 3, both)
	if len(g) != 1 {
		t.Fatalf("%d slots of one", len(g))
	}
	one.Give(t.Context(), g[0], true)
	if g = grants(t, other, 1, both); len(g) != 1 {
		t.Error("those that found no slot have taken a token")
	}
	other.Give(t.Context(), g[0], true)
	g = grants(t, one, 1, both)
	one.Give(t.Context(), g[0], true)
	if g := take(t, one, both); g.OK || g.Wait == 0 {
		t.Errorf("a fourth token: %+v", g)
	}
	both.Rate = 0
	if !take(t, one, both).OK {
		t.Error("who found no token has taken the slot")
	}
}

// However many processes and attempts there are, no more begins in any time than
// the burst and what the rate allows.
func TestRateHoldsUnderLoad(t *testing.T) {
	t.Parallel()
	url := testenv.Redis(t)
	const rate, burst = 500, 20
	var mu sync.Mutex
	var came []time.Duration
	var all sync.WaitGroup
	began := time.Now()
	for range 3 {
		l := newLimiter(t, url, redis.LimiterConfig{})
		for range 4 {
			all.Go(func() {
				for time.Since(began) < 2*time.Second {
					asked := time.Since(began)
					g := take(t, l, redis.Turn{Endpoint: "e", Rate: rate, Burst: burst, Ahead: 5 * time.Millisecond})
					if !g.OK {
						<-time.After(g.Wait)
						continue
					}
					mu.Lock()
					came = append(came, asked+g.Wait) // not after it was given
					mu.Unlock()
					<-time.After(g.Wait)
				}
			})
		}
	}
	all.Wait()
	slices.Sort(came)
	if n := len(came); n > burst+2.1*rate || n < 2*burst {
		t.Errorf("%d in two seconds", n)
	}
	const slack = 20 * time.Millisecond // of the trip to the server
	for i := range came {
		for j := range came[:i] {
			if n := float64(i - j + 1); n > burst+rate*(came[i]-came[j]+2*slack).Seconds() {
				t.Fatalf("%v calls within %s", n, came[i]-came[j])
			}
		}
	}
}

// Keys tell nothing of the endpoint, are short, and vanish.
func TestLimitsLeaveNothing(t *testing.T) {
	t.Parallel()
	server := testenv.PrivateRedis(t, testenv.RedisOptions{})
	l := newLimiter(t, server.URL(), redis.LimiterConfig{Lease: time.Second})
	turn := redis.Turn{Endpoint: "https://secret.example.com/" + strings.Repeat("x", 1000), MaxConcurrent: 1, Rate: 10, Burst: 1}
	g := take(t, l, turn)
	turn.Starved = true
	take(t, l, turn)
	keys := fmt.Sprint(server.Command(t, "KEYS", "*"))
	if n := strings.Count(keys, "fraiseql:limits:{"); n != 3 || len(keys) > 300 || strings.Contains(keys, "secret") {
		t.Errorf("keys %s", keys)
	}
	l.Give(t.Context(), g, true)
	_ = l.Close()
	eventually(t, func() bool { return fmt.Sprint(server.Command(t, "DBSIZE")) == "0" })
}

// Whatever becomes of the server, nobody waits for long, everybody gets a turn,
// and what runs is counted when it is back.
func TestLimiterSurvives(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ harm, mend []string }{
		"killed":    {[]string{"stop"}, []string{"restart"}},
		"paused":    {[]string{"pause"}, []string{"resume"}},
		"read-only": {[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testenv.PrivateRedis(t, testenv.RedisOptions{})
			var lost, back atomic.Int64
			l := newLimiter(t, server.URL(), redis.LimiterConfig{Patience: 250 * time.Millisecond, Changed: func(err error) {
				if err != nil {
					lost.Add(1)
				} else {
					back.Add(1)
				}
			}})
			turn := redis.Turn{Endpoint: "e", MaxConcurrent: 4, Rate: 1000, Burst: 1000}
			eventually(t, func() bool { // a busy machine connects slowly
				g, err := l.Take(t.Context(), turn)
				l.Give(t.Context(), g, true)
				return err == nil
			})
			lost.Store(0)
			back.Store(0)
			freed, kept := take(t, l, turn), take(t, l, turn)
			apply(t, server, tt.harm)
			waited := time.Duration(0)
			var alone []redis.Grant
			for range 50 {
				asked := time.Now()
				g, err := l.Take(t.Context(), turn)
				waited += time.Since(asked)
				if !g.OK || err == nil {
					t.Fatalf("%+v, error %v", g, err)
				}
				alone = append(alone, g)
				<-time.After(20 * time.Millisecond)
			}
			l.Give(t.Context(), freed, true)
			for _, g := range alone[1:] {
				l.Give(t.Context(), g, true)
			}
			if waited > 3*time.Second { // one in a second may wait, for a quarter
				t.Errorf("waited %s", waited)
			}
			apply(t, server, tt.mend)
			eventually(t, func() bool {
				g, err := l.Take(t.Context(), turn)
				l.Give(t.Context(), g, true)
				return err == nil && g.OK
			})
			if lost.Load() != 1 || back.Load() != 1 {
				t.Errorf("told %d times that it is away and %d times that it is back", lost.Load(), back.Load())
			}
			// kept and the first of alone run still.
			if n := len(grants(t, newLimiter(t, server.URL(), redis.LimiterConfig{}), 5, turn)); n != 2 {
				t.Errorf("%d slots beside two that are held", n)
			}
			l.Give(t.Context(), kept, true)
			l.Give(t.Context(), alone[0], true)
		})
	}
}
