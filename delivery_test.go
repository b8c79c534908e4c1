package observer_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
)

func delivered(order observer.Order, state observer.State, attempts int) *observer.Delivery {
	d := observer.NewDelivery(&observer.Event{ID: "e", EntityType: "Order", EntityID: "7"}, "notify", 0, "webhook")
	d.Order, d.State, d.Attempts = order, state, make([]observer.Attempt, attempts)
	return d
}

func TestDecisions(t *testing.T) {
	t.Parallel()
	type decided struct {
		State  observer.State
		Reason observer.Reason
		Error  string
		RunAt  time.Time
	}
	cause, at := errors.New("503"), time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for name, tt := range map[string]struct {
		decide func(d *observer.Delivery)
		want   decided
	}{
		"succeeded":      {(*observer.Delivery).Succeed, decided{State: observer.Done}},
		"failed":         {func(d *observer.Delivery) { d.Retry(cause, at) }, decided{observer.Scheduled, "", "503", at}},
		"not answered":   {func(d *observer.Delivery) { d.Retry(observer.OutcomeUnknown(cause), at) }, decided{observer.Unknown, "", "503", at}},
		"given up":       {func(d *observer.Delivery) { d.Bury(cause) }, decided{observer.Dead, observer.ReasonExhausted, "503", time.Time{}}},
		"given up, gone": {func(d *observer.Delivery) { d.Bury(observer.Permanent(observer.ReasonGone, cause)) }, decided{observer.Dead, observer.ReasonGone, "503", time.Time{}}},
		"dropped":        {func(d *observer.Delivery) { d.Drop(cause) }, decided{observer.Dropped, observer.ReasonExhausted, "503", time.Time{}}},
		"enqueued":       {func(d *observer.Delivery) { d.Enqueue(at) }, decided{observer.Queued, "old", "old", at}},
	} {
		d := delivered("", observer.Running, 0)
		d.Reason, d.Error = "old", "old"
		tt.decide(d)
		if diff := cmp.Diff(tt.want, decided{d.State, d.Reason, d.Error, d.RunAt}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		if !slices.Contains(observer.Running.Next(), d.State) {
			t.Errorf("%s: running does not become %s", name, d.State)
		}
	}
}

// Every state can be reached, and from every unfinished one an end.
func TestStatesAreConnected(t *testing.T) {
	t.Parallel()
	reachable := func(from observer.State) []observer.State {
		seen, todo := []observer.State{}, []observer.State{from}
		for len(todo) > 0 {
			next := todo[0].Next()
			todo = todo[1:]
			for _, s := range next {
				if !slices.Contains(seen, s) {
					seen, todo = append(seen, s), append(todo, s)
				}
			}
		}
		return seen
	}
	for _, s := range observer.States() {
		if !slices.Contains(reachable(""), s) {
			t.Errorf("nothing leads to %s", s)
		}
		if (s == observer.Done || s == observer.Dropped) != (len(s.Next()) == 0) {
			t.Errorf("%s leads to %v", s, s.Next())
		}
		if len(s.Next()) > 0 && !slices.Contains(reachable(s), observer.Done) {
			t.Errorf("%s never ends", s)
		}
	}
}

func TestBlocks(t *testing.T) {
	t.Parallel()
	blocking := map[observer.Order]map[string]bool{
		observer.OrderEntity: {"queued 0": true, "parked 0": true, "parked 1": true},
		observer.OrderStrict: {
			"queued 0": true, "queued 1": true, "scheduled 0": true, "scheduled 1": true, "unknown 0": true, "unknown 1": true,
			"parked 0": true, "parked 1": true, "running 0": true, "running 1": true,
		},
	}
	for _, order := range []observer.Order{"", observer.OrderNone, observer.OrderEntity, observer.OrderStrict} {
		for _, state := range observer.States() {
			for attempts, name := range []string{string(state) + " 0", string(state) + " 1"} {
				d := delivered(order, state, attempts)
				if d.Blocks() != blocking[order][name] {
					t.Errorf("order %q, %s: blocks %v", order, name, d.Blocks())
				}
				d.BlockWhenDead = true
				if want := blocking[order][name] || order == observer.OrderStrict && state == observer.Dead; d.Blocks() != want {
					t.Errorf("order %q, %s, block when dead: blocks %v", order, name, d.Blocks())
				}
			}
		}
	}
}

func TestLanes(t *testing.T) {
	t.Parallel()
	if lane := delivered(observer.OrderNone, "", 0).Lane(); lane != "" {
		t.Errorf("without an order there is a lane %q", lane)
	}
	lanes := map[string]bool{}
	for _, at := range [][3]string{{"a", "B", "c"}, {"a", "B/c", ""}, {"a", "B", "/c"}, {"a", "", "B/c"}, {"b", "B", "c"}, {"a", "B", "d"}} {
		d := observer.NewDelivery(&observer.Event{ID: "e", EntityType: at[1], EntityID: at[2]}, at[0], 0, "log")
		d.Order = observer.OrderEntity
		lanes[d.Lane()] = true
	}
	if len(lanes) != 6 {
		t.Errorf("six entities share lanes: %v", lanes)
	}
	malformed := &observer.Delivery{Key: "m", Malformed: &observer.Malformed{ID: "m"}, Order: observer.OrderStrict}
	if malformed.Lane() != "" {
		t.Error("what is no event has a lane")
	}
}

func TestFingerprint(t *testing.T) {
	t.Parallel()
	same := [][]string{
		{`POST https://a.example: status 503 Service Unavailable`},
		{`attempt 3 of 3 failed: dial tcp 10.0.0.1:45012: refused`, `attempt 5 of 5 failed: dial tcp 10.0.0.2:40001: refused`},
		{`no order "A-1" for 3f2b8c1e-0000-4000-8000-000000000001`, `no order "B-77" for 3f2b8c1e-ffff-4000-8000-00000000000a`},
		{`POST https://a.example: status 500 Service Unavailable`},
		{""},
	}
	seen := map[string]string{}
	for _, group := range same {
		name := observer.Fingerprint(group[0])
		if other, there := seen[name]; there {
			t.Errorf("%q and %q share a fingerprint", group[0], other)
		}
		seen[name] = group[0]
		for _, text := range group {
			if observer.Fingerprint(text) != name {
				t.Errorf("%q and %q differ", text, group[0])
			}
		}
	}
	if observer.Fingerprint("") != "" {
		t.Error("no error has a fingerprint")
	}
}

func TestOutcomeUnknown(t *testing.T) {
	t.Parallel()
	if observer.OutcomeUnknown(nil) != nil || observer.IsOutcomeUnknown(errors.New("x")) || !observer.IsOutcomeUnknown(
		observer.Deferred(observer.OutcomeUnknown(errors.New("x")), time.Now())) || !observer.Retryable(observer.OutcomeUnknown(errors.New("x"))) {
		t.Error("the mark is lost, or there without a reason")
	}
}
