package delivery_test

import (
	"context"
	"fmt"
	"math"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// receiver is an endpoint that is down until up, and what a chain makes of it:
// what fails is tried again after retry.
type receiver struct {
	endpoints *delivery.Endpoints
	up        atomic.Bool
	retry     time.Duration
	takes     time.Duration
	longer    atomic.Int64 // added to takes, in nanoseconds
}

func (r *receiver) run(ctx context.Context, d *observer.Delivery) error {
	err := errDown
	if r.up.Load() {
		err = nil
	}
	took := r.takes + time.Duration(r.longer.Load())
	<-time.After(took)
	d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1})
	r.endpoints.Attempted(ctx, d.Endpoint, took, err)
	if err != nil {
		d.Retry(err, time.Now().Add(r.retry))
		return nil
	}
	d.Succeed()
	return nil
}

func pacing(t *testing.T, store observer.DeliveryStore, re *receiver, change ...func(*delivery.EndpointsConfig)) (r *ran, w *delivery.Worker, stop func()) {
	t.Helper()
	re.endpoints = newEndpoints(store, change...)
	r = newRan(re.run)
	w, stop = begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Endpoints: re.endpoints})
	return r, w, stop
}

func TestFailingHardHasATenthOfThePlaces(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: time.Second, takes: 100 * time.Millisecond}
		put(t, store, many(200, "e")...)
		r, _, stop := pacing(t, store, re)
		<-time.After(10050 * time.Millisecond)
		stop()
		// 37 begin before the first failure is known and up to nine more before the
		// tenth is, then five every 100 ms.
		if n := len(r.timesOf("e")); n < 37+5*90 || n > 37+9+5*100 {
			t.Errorf("%d attempts in 10 s", n)
		}
	})
}

func TestPausedIsProbed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: time.Second}
		put(t, store, many(3, "e")...)
		r, _, stop := pacing(t, store, re, disableAfter(10*time.Minute))
		<-time.After(11*time.Minute - time.Second)
		before := len(r.timesOf("e"))
		if rows(t, store)["e"] != observer.PausedFailing || before < 3*500 {
			t.Fatalf("after %d attempts in 10 minutes it is %v", before, rows(t, store))
		}
		<-time.After(10 * time.Minute)
		probes := r.timesOf("e")[before:]
		if len(probes) != 10 {
			t.Fatalf("%d probes in 10 minutes: %v", len(probes), probes)
		}
		for i := range probes[1:] {
			if gap := probes[i+1] - probes[i]; gap != time.Minute {
				t.Errorf("%s between probes", gap)
			}
		}
		re.up.Store(true)
		<-time.After(2 * time.Minute)
		stop()
		if d := cmp.Diff(map[observer.State]int{observer.Done: 3}, states(t, store)); d != "" || len(rows(t, store)) != 0 {
			t.Errorf("after the probe that succeeded: %s%v", d, rows(t, store))
		}
	})
}

// Of several processes one probes, and another when that one is gone.
func TestProbesOfSeveralProcesses(t *testing.T) {
	t.Parallel()
	for _, interval := range []time.Duration{20 * time.Second, time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				put(t, store, many(3, "e")...)
				var runs []*ran
				var stops []func()
				for range 2 {
					re := &receiver{retry: time.Second, takes: 300 * time.Millisecond}
					r, _, stop := pacing(t, store, re, disableAfter(time.Minute), func(c *delivery.EndpointsConfig) { c.ProbeInterval = interval })
					runs, stops = append(runs, r), append(stops, stop)
				}
				probes := func() int { return len(runs[0].timesOf("e")) + len(runs[1].timesOf("e")) }
				<-time.After(5*time.Minute - 30*time.Second)
				before := probes()
				<-time.After(10 * interval)
				if n := probes() - before; n < 9 || n > 11 {
					t.Errorf("%d probes in ten intervals", n)
				}
				stops[0]()
				before = probes()
				<-time.After(10 * interval)
				if n := probes() - before; n < 8 || n > 10 {
					t.Errorf("%d probes in ten intervals after one process ended", n)
				}
				stops[1]()
			})
		})
	}
}

// A probe that takes longer than the time between two is not joined by another.
func TestOneProbeAtATime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: time.Hour}
		put(t, store, many(5, "e", at(time.Now().Add(3*time.Minute)))...)
		r, _, stop := pacing(t, store, re, disableAfter(time.Minute))
		fail(t, re.endpoints, 1, errDown)
		<-time.After(time.Minute)
		fail(t, re.endpoints, 1, errDown)
		re.longer.Store(int64(150 * time.Second))
		<-time.After(20 * time.Minute)
		stop()
		if n := r.atOnce("e"); n != 1 || len(r.all()) < 5 {
			t.Errorf("%d probes at once, %d in all", n, len(r.all()))
		}
	})
}

func TestNothingIsClaimedForWhatIsPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		put(t, store, many(5, "e")...)
		if err := delivery.Pause(t.Context(), store, "e"); err != nil {
			t.Fatal(err)
		}
		re := &receiver{}
		re.up.Store(true)
		r, _, stop := pacing(t, store, re)
		<-time.After(100 * time.Second)
		if n := len(r.all()); n != 0 || store.claims.Load() > 110 {
			t.Errorf("%d ran after %d claims in 100 s", n, store.claims.Load())
		}
		if err := delivery.Resume(t.Context(), store, "e"); err != nil {
			t.Fatal(err)
		}
		<-time.After(3 * time.Second)
		stop()
		if n := len(r.all()); n != 5 {
			t.Errorf("%d ran after it was resumed", n)
		}
	})
}

// rampStarts is how many attempts may begin within some time of a recovery.
func rampStarts(since time.Duration) float64 {
	return 10 * (math.Exp2(since.Seconds()) - 1) / math.Ln2
}

func TestBacklogLeavesWithARamp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: 24 * time.Hour}
		put(t, store, many(37, "e")...)
		r, w, stop := pacing(t, store, re)
		synctest.Wait()
		if n := len(r.timesOf("e")); n != 37 {
			t.Fatalf("%d failed", n)
		}
		<-time.After(10 * time.Second)
		re.up.Store(true)
		<-time.After(2 * time.Second)
		put(t, store, many(700, "e", func(d *observer.Delivery) { d.Key += "+" })...)
		w.Wake()
		<-time.After(6 * time.Second)
		stop()
		// Five were begun at once, of which the first was the recovery.
		starts, inFlight := r.timesOf("e")[37:], 5.0
		recovery := starts[0]
		for i, at := range starts[1:] {
			if allowed := rampStarts(at - recovery); float64(i+1) > allowed+inFlight {
				t.Fatalf("attempt %d began %s after the recovery, when %.1f were allowed", i+1, at-recovery, allowed)
			}
		}
		for _, since := range []time.Duration{800 * time.Millisecond, 1700 * time.Millisecond, 3700 * time.Millisecond, 5500 * time.Millisecond} {
			n := 0
			for _, at := range starts {
				if at-recovery <= since {
					n++
				}
			}
			if allowed := rampStarts(since); float64(n) < 0.85*allowed-4 {
				t.Errorf("%d attempts within %s of the recovery, of %.0f allowed", n, since, allowed)
			}
		}
	})
}

func TestRampIsLiftedAfterTenSeconds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: 24 * time.Hour}
		put(t, store, many(10, "e")...)
		r, w, stop := pacing(t, store, re)
		synctest.Wait()
		re.up.Store(true)
		put(t, store, made("recovery", observer.Queued, to("e")))
		w.Wake()
		<-time.After(10 * time.Second)
		before := len(r.all())
		put(t, store, many(300, "e", func(d *observer.Delivery) { d.Key += "+" })...)
		w.Wake()
		synctest.Wait()
		if n := len(r.all()) - before; n != 300 || !re.endpoints.Ready("e") {
			t.Errorf("%d of 300 ran at once", n)
		}
		stop()
	})
}

func TestFailuresEndTheRamp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, re := newStore(), &receiver{retry: 24 * time.Hour, takes: 10 * time.Second}
		put(t, store, many(10, "e")...)
		r, _, stop := pacing(t, store, re)
		<-time.After(25 * time.Second)
		// It recovers, and what began before that and fails after it says nothing.
		fail(t, re.endpoints, 1, nil)
		re.endpoints.Attempted(t.Context(), "e", 10*time.Second, errDown)
		<-time.After(2 * time.Second)
		put(t, store, many(100, "e", func(d *observer.Delivery) { d.Key += "+" })...)
		<-time.After(2 * time.Second)
		if n := r.atOnce("e"); n < 20 {
			t.Errorf("%d at once on the ramp", n)
		}
		before := len(r.all())
		fail(t, re.endpoints, 3, errDown)
		<-time.After(3 * time.Second)
		if n := len(r.all()) - before; n != 0 || re.endpoints.Ready("e") {
			t.Errorf("%d more began after three failures on the ramp", n)
		}
		fail(t, re.endpoints, 1, nil)
		if re.endpoints.Ready("e") {
			t.Error("no ramp follows a failure on the ramp")
		}
		stop()
	})
}

// Places that an endpoint may not take are there for others.
func TestFailingEndpointsLeavePlacesToOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		e := newEndpoints(store)
		for i := range 5 {
			for range 10 {
				e.Attempted(t.Context(), fmt.Sprint("down", i), 0, errDown)
			}
			put(t, store, many(100, fmt.Sprint("down", i))...)
		}
		put(t, store, many(100, "up")...)
		r := newRan(takes(time.Hour))
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Endpoints: e, Concurrency: 100})
		synctest.Wait()
		stop()
		if r.atOnce("up") != 50 || r.atOnce("down0") != 10 {
			t.Errorf("%d places for what works, %d for one that does not", r.atOnce("up"), r.atOnce("down0"))
		}
	})
}
