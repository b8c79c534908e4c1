package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

var errDown = errors.New("connection refused")

func newEndpoints(store observer.DeliveryStore, change ...func(*delivery.EndpointsConfig)) *delivery.Endpoints {
	cfg := delivery.EndpointsConfig{Store: store, Logger: quiet()}
	for _, c := range change {
		c(&cfg)
	}
	return delivery.NewEndpoints(cfg)
}

func disableAfter(d time.Duration) func(*delivery.EndpointsConfig) {
	return func(c *delivery.EndpointsConfig) { c.DisableAfter = d }
}

// rows is what the store holds about endpoints, without times.
func rows(t *testing.T, store observer.DeliveryStore) map[string]observer.Pause {
	t.Helper()
	list, err := store.Endpoints(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]observer.Pause{}
	for _, row := range list {
		got[row.Name] = row.Pause
	}
	return got
}

func refresh(t *testing.T, e *delivery.Endpoints) {
	t.Helper()
	if err := e.Refresh(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func fail(t *testing.T, e *delivery.Endpoints, n int, err error) {
	t.Helper()
	for range n {
		e.Attempted(t.Context(), "e", time.Millisecond, err)
	}
}

func TestSlowEndpointsAreNotForLanes(t *testing.T) {
	t.Parallel()
	type attempt struct {
		took  time.Duration
		err   error
		ready bool
	}
	tests := map[string][]attempt{
		"quick":                      {{time.Second, nil, true}, {2 * time.Second, nil, true}},
		"slow":                       {{2100 * time.Millisecond, nil, false}, {1500 * time.Millisecond, nil, false}, {time.Second, nil, true}},
		"slow failures":              {{3 * time.Second, errDown, false}, {time.Millisecond, errDown, true}},
		"says nothing":               {{3 * time.Second, nil, false}, {0, observer.Permanent(observer.ReasonTemplate, errDown), false}, {0, nil, true}},
		"cut off says that it hangs": {{3 * time.Second, context.Canceled, false}, {0, context.Canceled, false}},
	}
	for name, attempts := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoints(newStore())
			for i, a := range attempts {
				e.Attempted(t.Context(), "e", a.took, a.err)
				if e.Ready("e") != a.ready {
					t.Errorf("ready after attempt %d: %t", i+1, !a.ready)
				}
			}
		})
	}
	t.Run("outlasted", func(t *testing.T) {
		t.Parallel()
		e := newEndpoints(newStore())
		e.Outlasted("e")
		e.Outlasted("")
		if e.Ready("e") || !e.Ready("other") || !e.Ready("") {
			t.Error("an attempt outlasted its lane, and lanes still wait for the endpoint")
		}
		if e.Attempted(t.Context(), "e", time.Second, nil); !e.Ready("e") {
			t.Error("not ready after a quick attempt")
		}
	})
}

func TestTenFailuresInARowAreFailingHard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		e := newEndpoints(newStore())
		fail(t, e, 9, errDown)
		fail(t, e, 1, nil)
		fail(t, e, 9, errDown)
		if !e.Ready("e") {
			t.Error("failing hard after nine failures in a row")
		}
		fail(t, e, 1, errDown)
		if e.Ready("e") {
			t.Error("ready after ten failures in a row")
		}
		fail(t, e, 1, nil)
		if !e.Ready("e") {
			t.Error("a ramp after a failure of a moment: one that fails now and then would hardly be sent to")
		}
		fail(t, e, 10, errDown)
		<-time.After(10 * time.Second)
		fail(t, e, 1, nil)
		if e.Ready("e") {
			t.Error("lanes join in while it recovers")
		}
		if <-time.After(10 * time.Second); !e.Ready("e") {
			t.Error("not ready after the recovery")
		}
	})
}

func TestFailuresThatSayNothingOfTheReceiverDoNotCount(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancel(t.Context())
	cancel()
	for name, tt := range map[string]struct {
		ctx context.Context //nolint:containedctx // a case is one call
		err error
	}{
		"template":        {t.Context(), observer.Permanent(observer.ReasonTemplate, errDown)},
		"condition":       {t.Context(), observer.Permanent(observer.ReasonCondition, errDown)},
		"too large":       {t.Context(), observer.Permanent(observer.ReasonTooLarge, errDown)},
		"unconfigured":    {t.Context(), observer.Permanent(observer.ReasonUnconfigured, errDown)},
		"malformed":       {t.Context(), observer.Permanent(observer.ReasonMalformed, errDown)},
		"expired":         {t.Context(), observer.Permanent(observer.ReasonExpired, errDown)},
		"cut off":         {t.Context(), fmt.Errorf("post: %w", context.Canceled)},
		"stopped by then": {stopped, errDown},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoints(newStore())
			for range 20 {
				e.Attempted(tt.ctx, "e", 0, tt.err)
			}
			if !e.Ready("e") {
				t.Error("it is taken to fail")
			}
		})
	}
	for name, err := range map[string]error{
		"refused": observer.Permanent(observer.ReasonPermanent, errDown), "busy": observer.RetryAfter(errDown, time.Second),
		"not answered": observer.OutcomeUnknown(context.DeadlineExceeded),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEndpoints(newStore())
			fail(t, e, 10, err)
			if e.Ready("e") {
				t.Error("it is taken to work")
			}
		})
	}
}

func TestGoneIsPausedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		var told []observer.Endpoint
		e := newEndpoints(store, func(c *delivery.EndpointsConfig) {
			c.Paused = func(_ context.Context, e observer.Endpoint) { told = append(told, e) }
		})
		gone := observer.Permanent(observer.ReasonGone, errors.New("410 Gone"))
		fail(t, e, 3, gone)
		if e.Ready("e") || len(told) != 1 || told[0].Name != "e" || told[0].Pause != observer.PausedGone || told[0].LastError != "410 Gone" {
			t.Errorf("told %+v", told)
		}
		if d := cmp.Diff(map[string]observer.Pause{"e": observer.PausedGone}, rows(t, store)); d != "" {
			t.Error(d)
		}
		if err := delivery.Pause(t.Context(), store, "e"); err != nil {
			t.Fatal(err)
		}
		fail(t, e, 1, nil) // one that ran meanwhile
		refresh(t, e)
		if d := cmp.Diff(map[string]observer.Pause{"e": observer.PausedGone}, rows(t, store)); d != "" || e.Ready("e") {
			t.Errorf("a success ended what only a person ends: %s", d)
		}
	})
}

func TestFailingForLongIsPaused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, told := newStore(), 0
		alert := func(c *delivery.EndpointsConfig) {
			c.Paused = func(context.Context, observer.Endpoint) { told++ }
		}
		e := newEndpoints(store, disableAfter(time.Hour), alert)
		fail(t, e, 1, errDown)
		<-time.After(59 * time.Second)
		fail(t, e, 1, errDown)
		if d := cmp.Diff(map[string]observer.Pause{}, rows(t, store)); d != "" {
			t.Errorf("stored before a minute of failing: %s", d)
		}
		<-time.After(time.Second)
		fail(t, e, 1, errDown)
		if d := cmp.Diff(map[string]observer.Pause{"e": observer.NotPaused}, rows(t, store)); d != "" {
			t.Errorf("after a minute of failing: %s", d)
		}
		<-time.After(30 * time.Minute)
		e = newEndpoints(store, disableAfter(time.Hour), alert) // the process starts again
		refresh(t, e)
		if e.Ready("e") {
			t.Error("ready after a restart, though it fails for half an hour")
		}
		<-time.After(29*time.Minute - time.Second)
		fail(t, e, 1, errDown)
		if rows(t, store)["e"] != observer.NotPaused || told != 0 {
			t.Error("paused too early")
		}
		<-time.After(time.Second)
		fail(t, e, 2, errDown)
		if rows(t, store)["e"] != observer.PausedFailing || told != 1 {
			t.Errorf("after an hour of failing it is %v, and %d were told", rows(t, store), told)
		}
		fail(t, e, 1, nil)
		if d := cmp.Diff(map[string]observer.Pause{}, rows(t, store)); d != "" || told != 1 {
			t.Errorf("after a success: %s", d)
		}
	})
}

func TestNeverDisabled(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		e := newEndpoints(store)
		for range 100 {
			fail(t, e, 1, errDown)
			<-time.After(100 * time.Hour)
		}
		if d := cmp.Diff(map[string]observer.Pause{"e": observer.NotPaused}, rows(t, store)); d != "" {
			t.Error(d)
		}
	})
}

// What two processes see of one endpoint is one thing.
func TestProcessesShareWhatTheyKnow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, told := newStore(), 0
		alert := func(c *delivery.EndpointsConfig) {
			c.Paused = func(context.Context, observer.Endpoint) { told++ }
		}
		a, b := newEndpoints(store, disableAfter(time.Hour), alert), newEndpoints(store, disableAfter(time.Hour), alert)
		both := func(what string, want bool) {
			t.Helper()
			refresh(t, a)
			refresh(t, b)
			if a.Ready("e") != want || b.Ready("e") != want {
				t.Errorf("%s: ready %t and %t", what, a.Ready("e"), b.Ready("e"))
			}
		}
		fail(t, a, 1, errDown)
		fail(t, b, 1, errDown)
		<-time.After(61 * time.Minute)
		fail(t, b, 1, errDown)
		fail(t, a, 1, errDown) // it does not know yet that the other one has told
		both("paused by both", false)
		if told != 1 {
			t.Errorf("%d were told", told)
		}
		fail(t, b, 1, nil)
		both("recovering", false)
		<-time.After(10 * time.Second)
		both("recovered", true)
		if d := cmp.Diff(map[string]observer.Pause{}, rows(t, store)); d != "" {
			t.Error(d)
		}
	})
}

func TestPauseAndResume(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := newStore()
		e := newEndpoints(store, disableAfter(time.Hour))
		if err := delivery.Resume(t.Context(), store, "e"); !errors.Is(err, observer.ErrNotFound) {
			t.Errorf("resumed what is not paused: %v", err)
		}
		for range 2 {
			if err := delivery.Pause(t.Context(), store, "e"); err != nil {
				t.Fatal(err)
			}
		}
		// This process fails to reach it, not knowing yet that it is paused.
		fail(t, e, 1, errDown)
		<-time.After(2 * time.Minute)
		fail(t, e, 1, errDown)
		if rows(t, store)["e"] != observer.PausedByPerson || e.Ready("e") {
			t.Errorf("what a person paused is %v", rows(t, store))
		}
		fail(t, e, 1, nil)
		if refresh(t, e); rows(t, store)["e"] != observer.PausedByPerson || e.Ready("e") {
			t.Errorf("after a success what a person paused is %v", rows(t, store))
		}
		if err := delivery.Resume(t.Context(), store, "e"); err != nil {
			t.Fatal(err)
		}
		if refresh(t, e); e.Ready("e") {
			t.Error("no ramp after a person resumed it")
		}
		if <-time.After(10 * time.Second); !e.Ready("e") || len(rows(t, store)) != 0 {
			t.Errorf("not ready, rows %v", rows(t, store))
		}
		// It was paused because it failed for an hour: resumed, it has another hour.
		fail(t, e, 1, errDown)
		<-time.After(time.Hour)
		fail(t, e, 1, errDown)
		if err := errors.Join(delivery.Pause(t.Context(), store, "e"), delivery.Resume(t.Context(), store, "e")); err != nil {
			t.Fatal(err)
		}
		refresh(t, e)
		<-time.After(30 * time.Minute)
		if fail(t, e, 1, errDown); len(rows(t, store)) != 0 {
			t.Errorf("what failed before it was resumed counts: %v", rows(t, store))
		}
	})
}

// A process that fails to reach an endpoint just after a person has resumed it
// does not store the pause again that it still knows of.
func TestResumeIsNotUndone(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]func(*testing.T, observer.DeliveryStore, *delivery.Endpoints){
		"of a person": func(t *testing.T, store observer.DeliveryStore, e *delivery.Endpoints) {
			t.Helper()
			if err := delivery.Pause(t.Context(), store, "e"); err != nil {
				t.Fatal(err)
			}
			refresh(t, e)
			fail(t, e, 1, errDown)
		},
		"gone": func(t *testing.T, _ observer.DeliveryStore, e *delivery.Endpoints) {
			t.Helper()
			fail(t, e, 1, observer.Permanent(observer.ReasonGone, errDown))
		},
		"failing": func(t *testing.T, _ observer.DeliveryStore, e *delivery.Endpoints) {
			t.Helper()
			fail(t, e, 1, errDown)
			<-time.After(time.Hour)
			fail(t, e, 1, errDown)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				store := newStore()
				e := newEndpoints(store, disableAfter(time.Hour))
				pause(t, store, e)
				if <-time.After(2 * time.Minute); rows(t, store)["e"] == observer.NotPaused {
					t.Fatalf("rows %v", rows(t, store))
				}
				if err := delivery.Resume(t.Context(), store, "e"); err != nil {
					t.Fatal(err)
				}
				fail(t, e, 1, errDown) // one that began before
				refresh(t, e)
				<-time.After(10 * time.Second)
				if !e.Ready("e") || len(rows(t, store)) != 0 {
					t.Errorf("ready %t, rows %v", e.Ready("e"), rows(t, store))
				}
			})
		})
	}
}

// slow takes a second to store an endpoint, and pauses another one in that time,
// for a person.
type slow struct {
	flaky

	other string
}

func (s *slow) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	if err := s.flaky.SaveEndpoint(ctx, e); err != nil {
		return err
	}
	<-time.After(time.Second)
	return delivery.Pause(ctx, s.Store, s.other)
}

// Storing many endpoints takes time. What a person pauses meanwhile stays so.
func TestPauseWhileOthersAreStored(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slow{flaky: flaky{Store: newStore()}, other: "f"}
		e := newEndpoints(store)
		store.away(time.Minute)
		for _, name := range []string{"e", "f"} {
			e.Attempted(t.Context(), name, time.Millisecond, observer.Permanent(observer.ReasonGone, errDown))
		}
		<-time.After(time.Minute)
		refresh(t, e)
		if d := cmp.Diff(map[string]observer.Pause{"e": observer.PausedGone, "f": observer.PausedByPerson}, rows(t, store)); d != "" {
			t.Error(d)
		}
	})
}

// What the store does not take is told to it later, and the alert with it.
func TestPauseOutlivesAnOutageOfTheStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, told := &flaky{Store: newStore()}, 0
		e := newEndpoints(store, func(c *delivery.EndpointsConfig) {
			c.Paused = func(context.Context, observer.Endpoint) { told++ }
		})
		store.away(time.Minute)
		fail(t, e, 2, observer.Permanent(observer.ReasonGone, errDown))
		if err := e.Refresh(t.Context()); err == nil || e.Ready("e") || told != 0 {
			t.Errorf("refreshed with %v, ready %t, %d told", err, e.Ready("e"), told)
		}
		<-time.After(time.Minute)
		refresh(t, e)
		refresh(t, e)
		if rows(t, store)["e"] != observer.PausedGone || told != 1 {
			t.Errorf("rows %v, %d told", rows(t, store), told)
		}
	})
}

// meanwhile is a store in which something happens to an endpoint just before the
// next save.
type meanwhile struct {
	flaky

	happens func()
	lost    bool // the answer of the next save
}

func (s *meanwhile) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	if happens := s.happens; happens != nil {
		s.happens = nil
		happens()
	}
	if err := s.flaky.SaveEndpoint(ctx, e); err != nil || !s.lost {
		return err
	}
	s.lost = false
	return errLost
}

// Whatever comes between reading a row and storing it, the pause of a person
// stays, and so does its end.
func TestPersonAndProcessStoreAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &meanwhile{flaky: flaky{Store: newStore()}}
		e := newEndpoints(store, disableAfter(time.Hour))
		pause := func() {
			if err := delivery.Pause(t.Context(), store, "e"); err != nil {
				t.Error(err)
			}
		}
		fails := func() {
			fail(t, e, 3, errDown)
			<-time.After(time.Hour)
			fail(t, e, 1, errDown)
		}
		store.happens = pause
		fails()
		refresh(t, e)
		if got := rows(t, store)["e"]; got != observer.PausedByPerson {
			t.Errorf("paused by a person while a process stored: %q", got)
		}
		store.happens = func() {
			if err := delivery.Resume(t.Context(), store.Store, "e"); err != nil {
				t.Error(err)
			}
		}
		pause()
		if err := delivery.Resume(t.Context(), store, "e"); err != nil && !errors.Is(err, observer.ErrNotFound) {
			t.Error(err)
		}
		refresh(t, e)
		if got, there := rows(t, store)["e"]; there && got != observer.NotPaused {
			t.Errorf("resumed by two at once: %q", got)
		}
		store.happens = func() { refresh(t, e) }
		fails()
		pause()
		if got := rows(t, store)["e"]; got != observer.PausedByPerson {
			t.Errorf("paused by a process while a person stored: %q", got)
		}
	})
}

// The alert about a pause does not depend on the answer of the store, which may
// be lost.
func TestPauseIsToldAlthoughTheAnswerWasLost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store, told := &meanwhile{flaky: flaky{Store: newStore()}}, 0
		e := newEndpoints(store, func(c *delivery.EndpointsConfig) {
			c.Paused = func(context.Context, observer.Endpoint) { told++ }
		})
		store.lost = true
		e.Attempted(t.Context(), "e", time.Millisecond, observer.Permanent(observer.ReasonGone, errDown))
		if rows(t, store)["e"] != observer.PausedGone || told != 0 {
			t.Errorf("rows %v, %d told", rows(t, store), told)
		}
		refresh(t, e)
		refresh(t, e)
		if told != 1 {
			t.Errorf("told %d times", told)
		}
	})
}
