package executor_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/executor"
)

// journal remembers which deliveries ran and which were buried.
type journal struct {
	mu          sync.Mutex
	ran, buried []string
}

func (j *journal) action(took time.Duration, answer error) executor.Action {
	return executor.Action{
		Type: "test",
		Run: observer.ActionFunc(func(_ context.Context, d *observer.Delivery) (observer.Result, error) {
			<-time.After(took)
			j.mu.Lock()
			defer j.mu.Unlock()
			j.ran = append(j.ran, d.Key)
			return observer.Result{Detail: d.Key}, answer
		}),
		Bury: func(_ context.Context, d *observer.Delivery, cause error) error {
			j.mu.Lock()
			defer j.mu.Unlock()
			j.buried = append(j.buried, d.Key+": "+cause.Error())
			return nil
		},
	}
}

type fixed struct {
	match bool
	err   error
}

func (c fixed) Match(context.Context, *observer.Event) (bool, error) { return c.match, c.err }

func order(op observer.Operation) *observer.Event {
	return &observer.Event{ID: "e", Operation: op, EntityType: "Order", EntityID: "1"}
}

func TestThreeActionsOf100msTakeAbout100ms(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		x := executor.New(executor.Config{}, []executor.Observer{{Name: "o", Entity: "Order", Actions: []executor.Action{
			j.action(100*time.Millisecond, nil), j.action(50*time.Millisecond, nil), j.action(80*time.Millisecond, nil),
		}}})
		began := time.Now()
		outcomes := x.Execute(t.Context(), order(observer.Insert))
		if took := time.Since(began); took != 100*time.Millisecond {
			t.Errorf("took %s, want that of the slowest", took)
		}
		var keys []string
		var durations []time.Duration
		for _, o := range outcomes {
			keys, durations = append(keys, o.Result.Detail), append(durations, o.Duration)
		}
		if d := cmp.Diff([]string{"e/o/0", "e/o/1", "e/o/2"}, keys); d != "" {
			t.Errorf("declared order (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]time.Duration{100 * time.Millisecond, 50 * time.Millisecond, 80 * time.Millisecond}, durations); d != "" {
			t.Errorf("durations (-want +got):\n%s", d)
		}
	})
}

func TestMaxConcurrentActions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		j := &journal{}
		actions := slices.Repeat([]executor.Action{j.action(time.Second, nil)}, 10)
		x := executor.New(executor.Config{MaxConcurrentActions: 3}, []executor.Observer{{Name: "o", Entity: "*", Actions: actions}})
		began := time.Now()
		x.Execute(t.Context(), order(observer.Insert))
		if took := time.Since(began); took != 4*time.Second {
			t.Errorf("ten actions of 1 s, three at a time, took %s", took)
		}
	})
}

func TestConditions(t *testing.T) {
	t.Parallel()
	j := &journal{}
	o := func(name string, c executor.Condition) executor.Observer {
		return executor.Observer{Name: name, Entity: "Order", Condition: c, Actions: []executor.Action{j.action(0, nil), j.action(0, nil)}}
	}
	x := executor.New(executor.Config{MaxConcurrentActions: 1}, []executor.Observer{
		o("no", fixed{match: false}), o("broken", fixed{err: errors.New("no such field: totl")}), o("yes", fixed{match: true}), o("always", nil),
	})
	if err := x.Handle(t.Context(), order(observer.Update)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"e/yes/0", "e/yes/1", "e/always/0", "e/always/1"}, j.ran); d != "" {
		t.Errorf("ran (-want +got):\n%s", d)
	}
	if d := cmp.Diff([]string{"e/broken/0: no such field: totl", "e/broken/1: no such field: totl"}, j.buried); d != "" {
		t.Errorf("buried (-want +got):\n%s", d)
	}
}

func TestUnrecordedOutcomeIsAnError(t *testing.T) {
	t.Parallel()
	j := &journal{}
	lost := errors.New("store is away")
	x := executor.New(executor.Config{}, []executor.Observer{{Name: "o", Entity: "*", Actions: []executor.Action{j.action(0, nil), j.action(0, lost)}}})
	if err := x.Handle(t.Context(), order(observer.Insert)); !errors.Is(err, lost) {
		t.Errorf("error %v", err)
	}
}

func TestReplace(t *testing.T) {
	t.Parallel()
	j := &journal{}
	x := executor.New(executor.Config{}, []executor.Observer{{Name: "old", Entity: "*", Actions: []executor.Action{j.action(0, nil)}}})
	x.Replace([]executor.Observer{{Name: "new", Entity: "*", Actions: []executor.Action{j.action(0, nil)}}})
	if err := x.Handle(t.Context(), order(observer.Insert)); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"e/new/0"}, j.ran); d != "" {
		t.Error(d)
	}
}

// TestIndexAgainstAScan compares the index with looking at every observer.
func TestIndexAgainstAScan(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	rapid.Check(t, func(t *rapid.T) {
		entity := rapid.SampledFrom([]string{"Order", "Customer", "*"})
		op := rapid.SampledFrom(observer.Operations())
		j := &journal{}
		var observers []executor.Observer
		for i := range rapid.IntRange(0, 6).Draw(t, "observers") {
			observers = append(observers, executor.Observer{
				Name: strconv.Itoa(i), Entity: entity.Draw(t, "entity"),
				Operations: rapid.SliceOfNDistinct(op, 0, 4, rapid.ID).Draw(t, "operations"),
				Actions:    []executor.Action{j.action(0, nil)},
			})
		}
		e := &observer.Event{ID: "e", Operation: op.Draw(t, "op"), EntityType: rapid.SampledFrom([]string{"Order", "Customer", "Other"}).Draw(t, "type")}
		var want []string
		for _, o := range observers {
			if (o.Entity == "*" || o.Entity == e.EntityType) && (len(o.Operations) == 0 || slices.Contains(o.Operations, e.Operation)) {
				want = append(want, observer.DeliveryKey("e", o.Name, 0))
			}
		}
		var got []string
		for _, out := range executor.New(executor.Config{}, observers).Execute(ctx, e) {
			got = append(got, out.Delivery.Key)
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Fatalf("matches (-want +got):\n%s", d)
		}
	})
}
