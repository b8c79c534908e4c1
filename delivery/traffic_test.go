package delivery_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

// gate is traffic that lets so many pass, from a time on, and refuses what it had
// said it would take when it is asked to.
type gate struct {
	mu             sync.Mutex
	room           int
	from           time.Time
	turnAway       int
	admitted, left int
	looks          []bool
}

func (g *gate) Look() func(more bool) {
	return func(more bool) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.looks = append(g.looks, more)
	}
}

func (g *gate) Allowance(endpoint string) int {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case endpoint != "e":
		return math.MaxInt
	case time.Now().Before(g.from):
		return 0
	}
	return g.room
}

func (g *gate) Opens() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.from.After(time.Now()) {
		return g.from
	}
	return time.Time{}
}

type admission struct{}

func (g *gate) Admit(ctx context.Context, endpoint string) (context.Context, func(), bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if endpoint == "e" && g.turnAway > 0 {
		g.turnAway--
		return ctx, func() {}, false
	}
	g.admitted++
	return context.WithValue(ctx, admission{}, endpoint), func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.left++
	}, true
}

func TestWorkerClaimsNoMoreThanMayRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &flaky{Store: newStore()}
		g := &gate{room: math.MaxInt, from: time.Now().Add(10500 * time.Millisecond)}
		put(t, store, many(20, "e")...)
		put(t, store, many(3, "other")...)
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			if ctx.Value(admission{}) != d.Endpoint {
				t.Errorf("%s runs without its admission", d.Key)
			}
			return succeed(ctx, d)
		})
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Traffic: g})
		<-time.After(10 * time.Second)
		if d := cmp.Diff(map[observer.State]int{observer.Queued: 20, observer.Done: 3}, states(t, store)); d != "" {
			t.Errorf("while nothing may run: %s", d)
		}
		<-time.After(600 * time.Millisecond)
		stop()
		if d := cmp.Diff(map[observer.State]int{observer.Done: 23}, states(t, store)); d != "" {
			t.Errorf("after that: %s", d)
		}
		for _, at := range r.timesOf("e") {
			if at < 10500*time.Millisecond || at > 10510*time.Millisecond {
				t.Errorf("one began after %s", at)
			}
		}
		if g.admitted != 23 || g.left != 23 || len(g.looks) == 0 {
			t.Errorf("%d admitted, %d left, %d looks", g.admitted, g.left, len(g.looks))
		}
	})
}

// What was claimed and turned away, because a lane was faster, is given back and
// was no attempt.
func TestTurnedAwayIsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, g := newStore(), &gate{room: math.MaxInt, turnAway: 3}
		key := put(t, store, many(1, "e")...)
		r := newRan(nil)
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Traffic: g})
		<-time.After(5 * time.Second)
		stop()
		d := stored(t, store, key)
		if d.State != observer.Done || len(d.Attempts) != 1 || d.Lost != 0 || g.turnAway != 0 {
			t.Errorf("%s with %d attempts, %d lost; %d still to be turned away", d.State, len(d.Attempts), d.Lost, g.turnAway)
		}
	})
}

// What a run did not try goes back without an attempt, as often as that happens.
func TestNotTriedBurnsNoAttempt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		key := put(t, store, many(1, "e")...)
		runs := 0
		r := newRan(func(ctx context.Context, d *observer.Delivery) error {
			if runs++; runs < 5 {
				until := time.Now().Add(time.Minute)
				d.Retry(observer.NotTried(errDown, until), until)
				return nil
			}
			return succeed(ctx, d)
		})
		_, stop := work(t, store, r)
		<-time.After(time.Second)
		if d := stored(t, store, key); d.State != observer.Queued || len(d.Attempts) != 0 || d.Lost != 0 || d.Error != errDown.Error() {
			t.Errorf("%s with %d attempts, %d lost: %s", d.State, len(d.Attempts), d.Lost, d.Error)
		}
		<-time.After(10 * time.Minute)
		stop()
		if d := stored(t, store, key); d.State != observer.Done || len(d.Attempts) != 1 || runs != 5 {
			t.Errorf("%s with %d attempts after %d runs", d.State, len(d.Attempts), runs)
		}
	})
}

// The slow start after a breaker closed is the ramp, also when the endpoint never
// failed ten times in a row. A pause stays a pause.
func TestRecoveredBeginsTheRamp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		e := newEndpoints(store)
		put(t, store, many(500, "e")...)
		e.Recovered("e")
		if e.Ready("e") {
			t.Error("lanes join in at once")
		}
		r := newRan(nil)
		_, stop := begin(t, delivery.WorkerConfig{Store: store, Run: r.run, Endpoints: e})
		<-time.After(time.Second)
		first := len(r.timesOf("e"))
		<-time.After(time.Second)
		second := len(r.timesOf("e")) - first
		if first < 10 || first > 20 || second < 20 || second > 40 {
			t.Errorf("%d in the first second, %d in the next", first, second)
		}
		<-time.After(9 * time.Second)
		stop()
		if !e.Ready("e") {
			t.Error("not ready after the ramp")
		}
	})
	paused := newStore()
	if err := delivery.Pause(t.Context(), paused, "e"); err != nil {
		t.Fatal(err)
	}
	e := newEndpoints(paused)
	refresh(t, e)
	e.Recovered("e")
	if refresh(t, e); e.Ready("e") || rows(t, paused)["e"] != observer.PausedByPerson {
		t.Error("the pause of a person was ended")
	}
}
