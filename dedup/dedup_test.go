package dedup_test

import (
	"context"
	"log/slog"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/dedup"
	"github.com/fraiseql/observer/store/deduptest"
	"github.com/fraiseql/observer/store/memory"
)

// process is one that uses both stores.
type process struct {
	*dedup.Store
	network *network
}

func newProcess(name string, c *cache, shared observer.DedupStateStore) *process {
	n := &network{cache: c, state: shared}
	return &process{network: n, Store: dedup.New(dedup.Config{
		State: state{shared, n}, Front: front{n}, Session: name, Keep: time.Hour, Logger: slog.New(slog.DiscardHandler),
	})}
}

func (p *process) close(t *testing.T) {
	t.Helper()
	if err := p.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

// awaitPlace waits until the processes agree on a place.
func awaitPlace(t *testing.T, s observer.DedupStateStore, want observer.DedupPlace) {
	t.Helper()
	for range 2000 {
		v, err := s.DedupView(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if v.Place == want && v.Agreed {
			return
		}
		<-time.After(10 * time.Millisecond)
	}
	t.Fatalf("the place is not %s", want)
}

func TestBothAreOneStore(t *testing.T) {
	t.Parallel()
	for _, place := range []observer.DedupPlace{observer.DedupInFront, observer.DedupInState} {
		t.Run(string(place), func(t *testing.T) {
			t.Parallel()
			deduptest.Run(t, func(t *testing.T) deduptest.Subject {
				t.Helper()
				c, shared := newCache(), memory.New(memory.Config{})
				c.setDown(place == observer.DedupInState)
				open := func(t *testing.T, name string) observer.DedupStore {
					t.Helper()
					p := newProcess(name, c, shared)
					t.Cleanup(func() { p.close(t) })
					if err := p.ReleaseDedup(t.Context(), observer.DedupClaim{Key: "none", Owner: "none"}); err != nil {
						t.Fatal(err)
					}
					return p
				}
				s := open(t, "a")
				awaitPlace(t, shared, place)
				return deduptest.Subject{
					Store: s, Again: func(t *testing.T) observer.DedupStore { t.Helper(); return open(t, "b") },
					Unit: 100 * time.Millisecond, Pass: func(d time.Duration) { <-time.After(d) },
				}
			})
		})
	}
}

func claim(t *testing.T, s observer.DedupStore, key, owner string, want observer.DedupStanding) {
	t.Helper()
	answer, err := s.ClaimDedup(t.Context(), observer.DedupClaim{Key: key, Owner: owner}, time.Minute)
	if err != nil || answer.Standing != want {
		t.Fatalf("claim of %s for %s is %q, %v, want %s", key, owner, answer.Standing, err, want)
	}
}

func finish(t *testing.T, s observer.DedupStore, key string) {
	t.Helper()
	if err := s.FinishDedup(t.Context(), observer.DedupMark{Key: key, Keep: time.Hour}); err != nil {
		t.Fatal(err)
	}
}

// Whatever becomes of the fast store, what was claimed and done stays so, for
// the other process as well.
func TestOutagesOfTheFrontForgetNothing(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fail func(c *cache, a *process)
		heal func(c *cache, a *process)
	}{
		"away":            {func(c *cache, _ *process) { c.setDown(true) }, func(c *cache, _ *process) { c.setDown(false) }},
		"forgetful":       {func(c *cache, _ *process) { c.forget() }, func(*cache, *process) {}},
		"away for one":    {func(_ *cache, a *process) { a.network.cut(true, false) }, func(_ *cache, a *process) { a.network.cut(false, false) }},
		"empty after all": {func(c *cache, _ *process) { c.setDown(true); c.forget() }, func(c *cache, _ *process) { c.setDown(false) }},
	} {
		synctest.Test(t, func(t *testing.T) {
			c, shared := newCache(), memory.New(memory.Config{})
			a, b := newProcess("a", c, shared), newProcess("b", c, shared)
			claim(t, a, "early", "a", observer.DedupClaimed)
			finish(t, a, "early")
			claim(t, b, "held", "b", observer.DedupClaimed)
			awaitPlace(t, shared, observer.DedupInFront)
			claim(t, a, "done", "a", observer.DedupClaimed)
			finish(t, a, "done")
			claim(t, a, "held in front", "a", observer.DedupClaimed)
			check := func() {
				t.Helper()
				for _, p := range []*process{a, b} {
					claim(t, p, "early", "c", observer.DedupDone)
					claim(t, p, "done", "c", observer.DedupDone)
					claim(t, p, "held", "c", observer.DedupBusy)
					claim(t, p, "held in front", "c", observer.DedupBusy)
				}
			}
			check()
			tt.fail(c, a)
			began := time.Now()
			check()
			if took := time.Since(began); took > 3*time.Second {
				t.Errorf("%s: answers took %s", name, took)
			}
			tt.heal(c, a)
			<-time.After(3 * time.Minute)
			claim(t, a, "held", "b", observer.DedupClaimed) // its lease has ended
			finish(t, b, "held in front")
			claim(t, a, "held in front", "c", observer.DedupDone)
			awaitPlace(t, shared, observer.DedupInFront)
			claim(t, a, "early", "c", observer.DedupDone)
			claim(t, b, "done", "c", observer.DedupDone)
			a.close(t)
			b.close(t)
		})
	}
}

// A process that died keeps the others from changing the place, for no longer
// than its session.
func TestAProcessThatDiedIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		a := newProcess("a", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		if err := shared.HoldDedupSession(t.Context(), "dead", 3, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		c.setDown(true)
		began := time.Now()
		for {
			answer, err := a.ClaimDedup(t.Context(), observer.DedupClaim{Key: "l", Owner: "a"}, time.Minute)
			if err == nil && answer.Standing == observer.DedupClaimed {
				break
			}
			<-time.After(10 * time.Millisecond)
		}
		if took := time.Since(began); took < 9*time.Second || took > 11*time.Second {
			t.Errorf("the claim took %s, want as long as the session of the other", took)
		}
		a.close(t)
	})
}

// A process that cannot reach the state store makes no claims after a while, also
// where the fast store answers it.
func TestAProcessWithoutTheStateStoreEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		a := newProcess("a", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		a.network.cut(false, true)
		claim(t, a, "soon", "a", observer.DedupClaimed)
		<-time.After(9 * time.Second)
		if _, err := a.ClaimDedup(t.Context(), observer.DedupClaim{Key: "late", Owner: "a"}, time.Minute); err == nil {
			t.Error("claimed without a session")
		}
		finished := make(chan error, 1)
		go func() { finished <- a.FinishDedup(t.Context(), observer.DedupMark{Key: "soon", Keep: time.Hour}) }()
		<-time.After(time.Minute)
		select {
		case err := <-finished:
			t.Errorf("finished without a session: %v", err)
		default:
		}
		a.network.cut(false, false)
		if err := <-finished; err != nil {
			t.Error(err)
		}
		claim(t, a, "late", "a", observer.DedupClaimed)
		claim(t, a, "soon", "b", observer.DedupDone)
		a.close(t)
	})
}

func TestMarksReachTheStateStoreSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		a := newProcess("a", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		finish(t, a, "k")
		<-time.After(200 * time.Millisecond)
		claim(t, shared, "k", "b", observer.DedupDone)
		finish(t, a, "l")
		a.close(t) // at once
		claim(t, shared, "l", "b", observer.DedupDone)
		if v, err := shared.DedupView(t.Context()); err != nil || !v.Agreed {
			t.Errorf("a session is left: %+v, %v", v, err)
		}
	})
}

// An answer of a place that counts no more does not count either.
func TestALateAnswerOfTheFrontDoesNotCount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		a, b := newProcess("a", c, shared), newProcess("b", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		claim(t, b, "l", "b", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		a.network.slow(4 * time.Second) // and two on the way back
		late := make(chan observer.DedupAnswer, 1)
		go func() {
			answer, _ := a.ClaimDedup(t.Context(), observer.DedupClaim{Key: "late", Owner: "a"}, time.Minute)
			late <- answer
		}()
		<-time.After(5 * time.Second) // it is made, and the answer is on its way
		b.network.cut(true, false)
		claim(t, b, "late", "b", observer.DedupClaimed)
		if answer := <-late; answer.Standing != observer.DedupBusy {
			t.Errorf("the late answer is %s", answer.Standing)
		}
		a.close(t)
		b.close(t)
	})
}

// A mark that did not reach the fast store while it was being filled is not
// missing there later.
func TestAMarkMissingInTheFrontEndsItsEpoch(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		for i := range 5000 { // so that filling takes a while
			finish(t, shared, "old "+strconv.Itoa(i))
		}
		a, b := newProcess("a", c, shared), newProcess("b", c, shared)
		a.network.slow(200 * time.Millisecond)
		b.network.slow(200 * time.Millisecond)
		claim(t, a, "a mark", "a", observer.DedupClaimed)
		claim(t, b, "l", "b", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupFilling)
		<-time.After(800 * time.Millisecond)
		a.network.cut(true, false)
		finish(t, a, "a mark")
		a.network.cut(false, false)
		<-time.After(time.Minute)
		awaitPlace(t, shared, observer.DedupInFront)
		claim(t, b, "a mark", "b", observer.DedupDone)
		a.close(t)
		b.close(t)
	})
}

// Marks are stored before anybody asks the state store instead.
func TestMarksOnTheirWayAreNotForgotten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		n := &network{cache: c, state: shared}
		a := dedup.New(dedup.Config{
			State: state{shared, n}, Front: front{n}, Session: "a", Keep: time.Hour, FlushDelay: time.Minute, Logger: slog.New(slog.DiscardHandler),
		})
		b := newProcess("b", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		claim(t, b, "l", "b", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		finish(t, a, "k")
		c.forget()
		claim(t, b, "k", "b", observer.DedupDone)
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		b.close(t)
	})
}

// A process that died may have taken a mark with it that only the fast store has.
// Whoever comes across it stores it.
func TestMarksOfADeadProcessReachTheStateStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		a, b := newProcess("a", c, shared), newProcess("b", c, shared)
		claim(t, a, "k", "a", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		a.network.cut(false, true)
		finish(t, a, "k")
		if err := a.Close(); err == nil {
			t.Error("stored what it could not")
		}
		claim(t, b, "k", "b", observer.DedupDone)
		<-time.After(200 * time.Millisecond)
		c.forget()
		<-time.After(20 * time.Second) // the session of a
		claim(t, b, "k", "b", observer.DedupDone)
		b.close(t)
	})
}

// What is behind is bounded: whoever adds more waits.
func TestTooMuchBehindIsWaitedFor(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c, shared := newCache(), memory.New(memory.Config{})
		n := &network{cache: c, state: shared}
		a := dedup.New(dedup.Config{State: state{shared, n}, Front: front{n}, Session: "a", Keep: time.Hour, MaxBehind: 2, Logger: slog.New(slog.DiscardHandler)})
		claim(t, a, "k", "a", observer.DedupClaimed)
		awaitPlace(t, shared, observer.DedupInFront)
		n.cut(false, true)
		finish(t, a, "1")
		finish(t, a, "2")
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := a.FinishDedup(short, observer.DedupMark{Key: "3", Keep: time.Hour}); err == nil {
			t.Error("a third is behind")
		}
		n.cut(false, false)
		finish(t, a, "3")
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	})
}

func TestAfterTheEnd(t *testing.T) {
	t.Parallel()
	unused := newProcess("a", newCache(), memory.New(memory.Config{}))
	unused.close(t)
	if _, err := unused.ClaimDedup(t.Context(), observer.DedupClaim{Key: "k", Owner: "a"}, time.Minute); err == nil {
		t.Error("claimed after the end")
	}
}
