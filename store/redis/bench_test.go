package redis_test

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/store/redis"
)

const (
	// benchRound is how many deliveries one round handles, by benchCallers at once.
	benchRound   = 40_000
	benchCallers = 200
	// benchPace is how many are handled in a second where latency is measured.
	benchPace = 20_000
)

// BenchmarkClaimAndFinishAgainstSetNX handles deliveries, each a claim and then a
// mark, and makes as many bare SET NX by the same pipelining client, on the same
// server, in alternating order. One operation is a round of both.
func BenchmarkClaimAndFinishAgainstSetNX(b *testing.B) {
	url := testenv.PrivateRedis(b, testenv.RedisOptions{}).URL()
	c := newClient(b, url)
	bare, err := rueidis.NewClient(rueidis.MustParseURL(url))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	d, number := c.Dedup(newEpoch(b, c)), atomic.Int64{}
	key := func() string {
		return fmt.Sprintf("1:t/0191e8a0-0000-7000-8000-%012d/observer/0", number.Add(1))
	}
	var handled, set time.Duration
	var waits []time.Duration
	for b.Loop() {
		handled += benchAll(func() { handle(b, d, key()) })
		set += benchAll(func() {
			k := key()
			if err := bare.Do(b.Context(), bare.B().Set().Key(k).Value("owner").Nx().Px(time.Minute).Build()).Error(); err != nil {
				b.Error(err)
			}
		})
		waits = append(waits, paced(b, func() { handle(b, d, key()) })...)
	}
	rounds := float64(b.N) * benchRound
	slices.Sort(waits)
	b.ReportMetric(rounds/handled.Seconds(), "handled/s")
	b.ReportMetric(rounds/set.Seconds(), "setnx/s")
	b.ReportMetric(set.Seconds()/handled.Seconds(), "handled/setnx")
	b.ReportMetric(2*set.Seconds()/handled.Seconds(), "calls/setnx")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "claim+done_p99_ms")
	b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "claim+done_p50_ms")
}

func handle(b *testing.B, d observer.DedupStore, key string) {
	b.Helper()
	answer, err := d.ClaimDedup(b.Context(), observer.DedupClaim{Key: key, Owner: "host/1/" + strconv.Itoa(len(key))}, 30*time.Second)
	if err != nil || answer.Standing != observer.DedupClaimed {
		b.Errorf("%s: %s, %v", key, answer.Standing, err)
	}
	if err := d.FinishDedup(b.Context(), observer.DedupMark{Key: key, Keep: 5 * time.Minute}); err != nil {
		b.Error(err)
	}
}

// BenchmarkTurnAgainstSetNX takes a turn at an endpoint with a limit of attempts
// at once, and of a rate, and gives it back: what limits that are shared cost an
// attempt. It makes as many bare SET NX, as [BenchmarkClaimAndFinishAgainstSetNX]
// does. One operation is a round of both.
func BenchmarkTurnAgainstSetNX(b *testing.B) {
	for name, turn := range map[string]redis.Turn{
		"slot and token": {Endpoint: "e", MaxConcurrent: 10_000, Rate: 100_000, Burst: 100_000},
		"token":          {Endpoint: "e", Rate: 100_000, Burst: 100_000},
	} {
		b.Run(name, func(b *testing.B) { benchmarkTurn(b, turn) })
	}
}

func benchmarkTurn(b *testing.B, turn redis.Turn) {
	b.Helper()
	url := testenv.PrivateRedis(b, testenv.RedisOptions{}).URL()
	l := newLimiter(b, url, redis.LimiterConfig{})
	bare, err := rueidis.NewClient(rueidis.MustParseURL(url))
	if err != nil {
		b.Fatal(err)
	}
	defer bare.Close()
	number := atomic.Int64{}
	use := func() {
		g := take(b, l, turn)
		if g.OK {
			l.Give(b.Context(), g, true)
		}
	}
	use()
	var taken, set time.Duration
	for b.Loop() {
		taken += benchAll(use)
		set += benchAll(func() {
			key := "bare:" + strconv.FormatInt(number.Add(1), 10)
			if err := bare.Do(b.Context(), bare.B().Set().Key(key).Value("owner").Nx().Px(time.Minute).Build()).Error(); err != nil {
				b.Error(err)
			}
		})
	}
	rounds := float64(b.N) * benchRound
	b.ReportMetric(rounds/taken.Seconds(), "turns/s")
	b.ReportMetric(rounds/set.Seconds(), "setnx/s")
	b.ReportMetric(set.Seconds()/taken.Seconds(), "turns/setnx")
	began := time.Now()
	for range 1000 {
		use()
	}
	b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "alone_us/turn")
}

func benchAll(call func()) time.Duration {
	began := time.Now()
	var calling sync.WaitGroup
	for range benchCallers {
		calling.Go(func() {
			for range benchRound / benchCallers {
				call()
			}
		})
	}
	calling.Wait()
	return time.Since(began)
}

// paced makes calls at a fixed rate for a second, and gives how long each took
// from when it was due.
func paced(b *testing.B, call func()) []time.Duration {
	b.Helper()
	waits := make([]time.Duration, benchPace)
	began := time.Now()
	var calling sync.WaitGroup
	next := atomic.Int64{}
	for range benchCallers {
		calling.Go(func() {
			for {
				i := next.Add(1) - 1
				if i >= benchPace {
					return
				}
				due := began.Add(time.Duration(i) * time.Second / benchPace)
				<-time.After(time.Until(due))
				call()
				waits[i] = time.Since(due)
			}
		})
	}
	calling.Wait()
	return waits
}
