package middleware_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/middleware"
)

// counted is a limit on which others draw too: answers are what it says, in
// order, and then that everything is given.
type counted struct {
	mu      sync.Mutex
	answers []answer
	asked   []middleware.TurnRequest
	ended   []bool // whether the turns were used
}

type answer struct {
	refuse bool
	wait   time.Duration
}

func (c *counted) Take(_ context.Context, q middleware.TurnRequest) middleware.SharedTurn {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.asked = append(c.asked, q)
	a := answer{}
	if len(c.answers) > 0 {
		a, c.answers = c.answers[0], c.answers[1:]
	}
	turn := middleware.SharedTurn{Wait: a.wait}
	if !a.refuse {
		turn.End = func(_ context.Context, used bool) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.ended = append(c.ended, used)
		}
	}
	return turn
}

func sharedTraffic(l middleware.LimitsConfig, c *counted) *middleware.Traffic {
	return middleware.NewTraffic(middleware.TrafficConfig{
		Rules: func(string) middleware.Rules { return middleware.Rules{Limits: l} }, Shared: c, Logger: quiet(),
	})
}

const noPlace = time.Duration(0)

// What others leave no room for is not tried, takes nothing of the limits of this
// process, and is not asked for again before it can help.
func TestRefusedByOthers(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		wait     time.Duration
		min, max time.Duration // until it may be asked again
	}{
		"no place":      {noPlace, 25 * time.Millisecond, 50 * time.Millisecond},
		"token soon":    {time.Millisecond, 125 * time.Millisecond, 125 * time.Millisecond},
		"token later":   {time.Second, time.Second, time.Second},
		"token at noon": {time.Hour, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				c := &counted{answers: []answer{{true, tt.wait}}}
				l := middleware.LimitsConfig{MaxConcurrent: 3, Rate: 0.001, Burst: 2}
				tr, r := sharedTraffic(l, c), newBusy(0)
				run := tr.Breaker(false)(tr.Limit(100 * time.Millisecond)(r))
				_, err := run.Execute(t.Context(), toEndpoint("e"))
				until, untried := observer.NotTriedUntil(err)
				if wait := time.Until(until); !untried || !errors.Is(err, middleware.ErrLimited) || wait < tt.min || wait > tt.max {
					t.Errorf("%v, again in %s", err, wait)
				}
				wantShut(t, tr, until)
				if _, err := run.Execute(t.Context(), toEndpoint("e")); err == nil || len(c.asked) != 1 {
					t.Errorf("error %v, asked %d times", err, len(c.asked))
				}
				<-time.After(time.Until(until))
				if g := tr.Guarded()[0]; g.Running != 0 || tr.Allowance("e") != 1 {
					t.Errorf("%d run, room for %d", g.Running, tr.Allowance("e"))
				}
				tr.Look()(false)
				for range 2 { // both tokens of this process are there
					if _, err := run.Execute(t.Context(), toEndpoint("e")); err != nil {
						t.Error(err)
					}
				}
				if d := cmp.Diff([]bool{true, true}, c.ended); d != "" || c.asked[0].Endpoint != "e" || c.asked[0].Limits != l {
					t.Errorf("%s%+v", d, c.asked[0])
				}
			})
		})
	}
}

// wantShut checks that nobody tries anything before until.
func wantShut(t *testing.T, tr *middleware.Traffic, until time.Time) {
	t.Helper()
	if n, at := tr.Allowance("e"), tr.Opens(); n != 0 || !at.Equal(until) {
		t.Errorf("a worker may begin %d; opens at %s, want %s", n, at, until)
	}
	if _, ready := tr.InLane("e"); ready {
		t.Error("a lane may try")
	}
}

// A worker that was refused claims one, and one more with each turn; what it has
// claimed and does not try leaves room for another.
func TestWorkersAskForOneMoreWithEachTurn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{answers: []answer{{true, noPlace}}}
		tr, r := sharedTraffic(middleware.LimitsConfig{MaxConcurrent: 100}, c), newBusy(time.Hour)
		run := tr.Breaker(false)(tr.Limit(0)(r))
		_, _ = run.Execute(t.Context(), toEndpoint("e"))
		<-time.After(50 * time.Millisecond)
		woken := 0
		tr.OnChange(func() { woken++ })
		for want := 1; want <= 3; want++ {
			if n := tr.Allowance("e"); n != want {
				t.Errorf("room for %d, want %d", n, want)
			}
			ctx, leave, ok := tr.Admit(t.Context(), "e")
			if n := tr.Allowance("e"); n != want-1 || !ok {
				t.Errorf("room for %d beside one that asks (%t)", n, ok)
			}
			leave()
			if n := tr.Allowance("e"); n != want {
				t.Errorf("room for %d after one was not tried", n)
			}
			ctx, _, _ = tr.Admit(t.Context(), "e")
			if want == 1 && tr.Allowance("e") != 0 {
				t.Error("room beside the one that asks")
			}
			go func() { _, _ = run.Execute(ctx, toEndpoint("e")) }()
			synctest.Wait()
		}
		if len(r.came) != 3 || woken != 2 { // the first left, and then got its turn
			t.Errorf("%d tried, woken %d times", len(r.came), woken)
		}
		<-time.After(2 * time.Hour)
	})
}

// A place that this process leaves can be taken at once, and one that others leave
// after a moment.
func TestOwnPlaceIsTakenAgainAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{answers: []answer{{}, {true, noPlace}, {true, noPlace}, {true, noPlace}, {true, noPlace}, {true, noPlace}}}
		tr, r := sharedTraffic(middleware.LimitsConfig{MaxConcurrent: 10}, c), newBusy(10*time.Second)
		run := tr.Breaker(false)(tr.Limit(0)(r))
		go func() { _, _ = run.Execute(t.Context(), toEndpoint("e")) }()
		synctest.Wait()
		for range 5 { // each a little later than the one before
			ctx, leave, ok := tr.Admit(t.Context(), "e")
			_, err := run.Execute(ctx, toEndpoint("e"))
			until, untried := observer.NotTriedUntil(err)
			if wait := time.Until(until); !ok || !untried || wait > 250*time.Millisecond {
				t.Errorf("%v, again in %s (%t)", err, wait, ok)
			}
			leave()
			<-time.After(time.Until(until))
		}
		c.answers = []answer{{true, noPlace}}
		<-time.After(time.Until(r.ends()) - 20*time.Millisecond)
		ctx, leave, _ := tr.Admit(t.Context(), "e")
		_, _ = run.Execute(ctx, toEndpoint("e"))
		leave()
		if last := c.asked[len(c.asked)-1]; !last.Starved || c.asked[1].Starved {
			t.Errorf("asked %+v", c.asked)
		}
		if n := tr.Allowance("e"); n != 0 {
			t.Fatalf("room for %d", n)
		}
		woken := 0
		tr.OnChange(func() { woken++ })
		<-time.After(time.Until(r.ends()))
		synctest.Wait()
		if n := tr.Allowance("e"); n != 1 || woken != 1 {
			t.Errorf("room for %d after one of this process ended; woken %d times", n, woken)
		}
	})
}

// ends is when the first call ends.
func (r *busy) ends() time.Time { return r.began.Add(r.came[0] + r.takes) }

// A token that others leave only later is waited for, and given back by what is
// asked to stop.
func TestTokenThatIsThereLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := &counted{answers: []answer{{false, 100 * time.Millisecond}, {false, 100 * time.Millisecond}}}
		tr, r := sharedTraffic(middleware.LimitsConfig{MaxConcurrent: 1, Rate: 1, Burst: 1}, c), newBusy(0)
		run := tr.Breaker(false)(tr.Limit(200 * time.Millisecond)(r))
		if _, err := run.Execute(draining(t, 50*time.Millisecond, time.Hour), toEndpoint("e")); refused([]error{err}) != 1 {
			t.Errorf("error %v", err)
		}
		if n := tr.Allowance("e"); n != 1 {
			t.Errorf("room for %d after one that was not tried", n)
		}
		if _, err := run.Execute(t.Context(), toEndpoint("e")); err != nil {
			t.Error(err)
		}
		if d := cmp.Diff([]time.Duration{150 * time.Millisecond}, r.came); d != "" {
			t.Errorf("came at %s", d)
		}
		if d := cmp.Diff([]bool{false, true}, c.ended); d != "" || c.asked[0].Ahead != 200*time.Millisecond {
			t.Errorf("%s%+v", d, c.asked)
		}
		<-time.After(time.Second)
		ctx, _, _ := tr.Admit(t.Context(), "e")
		_, _ = run.Execute(ctx, toEndpoint("e"))
		if last := c.asked[2]; last.Ahead != 250*time.Millisecond {
			t.Errorf("a worker can wait for %s", last.Ahead)
		}
	})
}
