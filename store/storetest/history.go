package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	observer "github.com/fraiseql/observer"
)

func historyTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"history/any: the states follow their arrows": testAnyHistory,
		"history/workers only: lanes keep order":      testLaneHistory,
	}
}

// testAnyHistory does whatever a store can do in any order. After each step the
// store holds what the model holds, each state followed the one before it, and
// in the end a worker gets everything done: nothing was forgotten.
func testAnyHistory(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	rapid.Check(t, func(t *rapid.T) {
		y := newHistory(t, h, s)
		t.Repeat(map[string]func(*rapid.T){
			"insert":    y.insert,
			"begin":     y.begin,
			"claim due": y.claimDue,
			"claim":     y.claim,
			"extend":    y.extend,
			"update":    y.update,
			"update 2":  y.update, // as often as there are claims
			"repeat":    y.repeat,
			"requeue":   y.requeue,
			"remove":    y.remove,
			"prune":     y.prune,
			"wait":      y.wait,
			"":          y.check,
		})
		y.drain(t)
	})
}

// history is a random history of a store.
type history struct {
	model
	h *harness
	s observer.StateStore
	// seen are the states at the last look.
	seen map[string]observer.State
	// events and owners count what got a name.
	events, owners int
	// sent is called with what a worker claimed, before the model knows.
	sent func(t *rapid.T, ds []*observer.Delivery)
}

// newHistory empties the store: opening one for each history takes too long.
func newHistory(t *rapid.T, h *harness, s observer.StateStore) *history {
	h.clock.advance(2 * lease)
	prune(t, s, observer.Retention{DoneBefore: h.clock.Now(), DeadBefore: h.clock.Now()}, 1000)
	for _, key := range list(t, s, observer.DeliveryFilter{}) {
		remove(t, s, key)
	}
	return &history{
		model: model{now: h.clock.Now}, h: h, s: s, seen: map[string]observer.State{},
		sent: func(*rapid.T, []*observer.Delivery) {},
	}
}

func (y *history) owner() string {
	y.owners++
	return fmt.Sprint("owner ", y.owners)
}

// pick draws one of the stored deliveries that match.
func (y *history) pick(t *rapid.T, match func(*modelRow) bool) *modelRow {
	var rows []*modelRow
	for _, r := range y.rows {
		if match(r) {
			rows = append(rows, r)
		}
	}
	if len(rows) == 0 {
		t.Skip("there is none")
	}
	return rows[rapid.IntRange(0, len(rows)-1).Draw(t, "row")]
}

func (y *history) seconds(t *rapid.T, from, to int) time.Time {
	return y.now().Add(time.Duration(rapid.IntRange(from, to).Draw(t, "seconds")) * time.Second)
}

// event draws the deliveries of a new event to one or two actions.
func (y *history) event(t *rapid.T) []*observer.Delivery {
	y.events++
	orders := []observer.Order{observer.OrderStrict, observer.OrderEntity, observer.OrderNone}
	order := rapid.SampledFrom(orders).Draw(t, "order")
	block := rapid.Bool().Draw(t, "block when dead")
	entity := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "entity")
	var ds []*observer.Delivery
	for index := range rapid.IntRange(1, 2).Draw(t, "actions") {
		// Later events have lower keys: those do not order lanes.
		d := action(strict(999_999-y.events, entity), index)
		d.Order, d.BlockWhenDead = order, block
		d.RunAt = y.seconds(t, -5, 20)
		d.Priority = rapid.IntRange(0, observer.LastPriority).Draw(t, "priority")
		d.Queue = rapid.SampledFrom([]string{"", "q"}).Draw(t, "queue")
		d.Endpoint = rapid.SampledFrom([]string{"a", "b"}).Draw(t, "endpoint")
		ds = append(ds, d)
	}
	return ds
}

func (y *history) insert(t *rapid.T) {
	states := []observer.State{observer.Queued, observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead}
	var ds []*observer.Delivery
	for range rapid.IntRange(1, 3).Draw(t, "events") {
		for _, d := range y.event(t) {
			d.State = rapid.SampledFrom(states).Draw(t, "state")
			ds = append(ds, d)
		}
	}
	if len(y.rows) > 0 && rapid.Bool().Draw(t, "known") {
		known := y.pick(t, func(*modelRow) bool { return true }).Clone()
		known.State = observer.Queued
		ds = append(ds, known)
	}
	y.store(t, ds)
}

func (y *history) store(t *rapid.T, ds []*observer.Delivery) {
	want := 0
	states := map[string]observer.State{}
	for _, d := range ds {
		if y.model.insert(d) {
			want++
			states[d.Key] = y.find(d.Key).State
		}
	}
	wantDiff(t, "stored", want, insert(t, y.s, ds...))
	for _, d := range ds {
		if state, stored := states[d.Key]; stored {
			wantDiff(t, "state told for "+d.Key, state, d.State)
		}
	}
}

func (y *history) begin(t *rapid.T) {
	for _, d := range y.event(t) {
		owner := y.owner()
		d.RunAt = y.now()
		wantDiff(t, "begun", true, begin(t, y.s, d, owner))
		wantDiff(t, "begun again", false, begin(t, y.s, d, "another"))
		y.model.begin(d, owner)
	}
}

// claimed checks what a store says with a claim.
func (y *history) claimed(t *rapid.T, d *observer.Delivery, owner string) {
	r := y.find(d.Key)
	y.model.claim(r, owner)
	wantDiff(t, "state of "+d.Key, observer.Running, d.State)
	wantDiff(t, "claimed from, of "+d.Key, r.State, d.ClaimedFrom)
	wantDiff(t, "claimed at, of "+d.Key, y.now(), d.ClaimedAt)
	wantDiff(t, "lost of "+d.Key, r.claims-1, d.Lost)
	wantDiff(t, "lost at, of "+d.Key, r.lostAt, d.LostAt)
}

func (y *history) claim(t *rapid.T) {
	r := y.pick(t, func(r *modelRow) bool { return r.State != observer.Parked || y.alone(r) })
	owner := y.owner()
	d, err := y.s.ClaimDelivery(t.Context(), r.Key, owner, lease)
	switch {
	case r.State == observer.Done, r.State == observer.Dropped:
		wantError(t, "claim what is finished", err, observer.ErrNotFound)
	case y.leased(r):
		wantError(t, "claim what is leased", err, observer.ErrBusy)
	case err != nil:
		t.Fatalf("claim %s: %v", r.Key, err)
	default:
		y.claimed(t, d, owner)
	}
}

// alone reports whether r is the only delivery of its event: whether a person who
// runs one of several keeps the others waiting is left to the store.
func (y *history) alone(r *modelRow) bool {
	return !slices.ContainsFunc(y.rows, func(other *modelRow) bool { return other != r && other.Event.ID == r.Event.ID })
}

func (y *history) extend(t *rapid.T) {
	r := y.pick(t, func(r *modelRow) bool { return r.LeaseOwner != "" })
	err := y.s.ExtendLease(t.Context(), r.Key, r.LeaseOwner, lease)
	if !y.leased(r) {
		wantError(t, "extend what is over", err, observer.ErrBusy)
		return
	}
	if err != nil {
		t.Fatalf("extend: %v", err)
	}
	r.LeaseUntil = y.now().Add(lease)
}

func (y *history) update(t *rapid.T) {
	r := y.pick(t, func(r *modelRow) bool { return r.LeaseOwner != "" })
	d := get(t, y.s, r.Key)
	if !y.leased(r) {
		d.Succeed()
		wantError(t, "update too late", y.s.UpdateDelivery(t.Context(), d, r.LeaseOwner), observer.ErrBusy)
		return
	}
	d.State = rapid.SampledFrom([]observer.State{
		"put back", observer.Done, observer.Dropped, observer.Dead, observer.Scheduled, observer.Unknown,
	}).Draw(t, "state")
	if d.State == "put back" {
		d.State = r.State
	} else {
		d.Attempts = append(d.Attempts, observer.Attempt{Number: len(d.Attempts) + 1, At: y.now()})
	}
	if d.State == observer.Scheduled || d.State == observer.Unknown {
		d.RunAt = y.seconds(t, 0, 20)
	}
	update(t, y.s, d, r.LeaseOwner)
	y.model.update(d)
}

// repeat stores an outcome once more, or what only looks like it: nothing changes.
func (y *history) repeat(t *rapid.T) {
	r := y.pick(t, func(r *modelRow) bool { return r.outcome != nil })
	d, owner := r.outcome.Clone(), r.outcomeBy
	known := r.State == d.State || r.State == observer.Queued && d.State == observer.Parked
	kinds := []string{"the same", "the same", "another owner", "another attempt", "another state"}
	switch rapid.SampledFrom(kinds).Draw(t, "kind") {
	case "another owner":
		owner, known = y.owner(), false
	case "another attempt":
		d.Attempts, known = append([]observer.Attempt{{Error: "another"}}, d.Attempts[min(1, len(d.Attempts)):]...), false
	case "another state":
		d.State, known = observer.Done, r.State == observer.Done
	}
	err := y.s.UpdateDelivery(t.Context(), d, owner)
	if !known {
		wantError(t, "repeat what is over", err, observer.ErrBusy)
		return
	}
	if err != nil {
		t.Fatalf("repeat %s as %s by %s: %v", d.Key, d.State, owner, err)
	}
}

func (y *history) requeue(t *rapid.T) {
	r := y.pick(t, func(r *modelRow) bool { return !y.leased(r) })
	at := y.seconds(t, -5, 20)
	state, err := y.s.RequeueDelivery(t.Context(), r.Key, at)
	if r.State != observer.Dead && r.State != observer.Scheduled && r.State != observer.Unknown {
		wantError(t, "requeue from "+string(r.State), err, observer.ErrNotFound)
		return
	}
	if err != nil {
		t.Fatalf("requeue: %v", err)
	}
	if may := y.model.requeue(r, at); !slices.Contains(may, state) {
		t.Errorf("requeue %s: got %s, want one of %q", r.Key, state, may)
	}
}

func (y *history) remove(t *rapid.T) {
	r := y.pick(t, func(*modelRow) bool { return true })
	err := y.s.RemoveDelivery(t.Context(), r.Key)
	if y.leased(r) {
		wantError(t, "remove what is leased", err, observer.ErrBusy)
		return
	}
	if err != nil {
		t.Fatalf("remove: %v", err)
	}
	y.model.remove(r)
}

// prune lets the store choose among what may go.
func (y *history) prune(t *rapid.T) {
	before := y.seconds(t, -30, 1)
	limit := rapid.IntRange(0, 4).Draw(t, "limit")
	y.unblock()
	var done, dead []string
	for _, r := range y.rows {
		switch {
		case y.leased(r) || !r.UpdatedAt.Before(before):
		case r.State == observer.Done || r.State == observer.Dropped:
			done = append(done, r.Key)
		case r.State == observer.Dead && (r.Lane() == "" || !r.Blocks()):
			dead = append(dead, r.Key)
		}
	}
	removed := prune(t, y.s, observer.Retention{DoneBefore: before, DeadBefore: before}, limit)
	wantDiff(t, "pruned", min(limit, len(done)+len(dead)), removed)
	gone := map[bool]int{}
	for _, key := range slices.Concat(done, dead) {
		if _, err := y.s.Delivery(t.Context(), key); errors.Is(err, observer.ErrNotFound) {
			gone[slices.Contains(dead, key)]++
			y.model.remove(y.find(key))
		}
	}
	wantDiff(t, "pruned done and dead", map[bool]int{false: min(limit, len(done)), true: removed - min(limit, len(done))},
		map[bool]int{false: gone[false], true: gone[true]})
}

func (y *history) wait(t *rapid.T) {
	y.h.clock.advance(rapid.SampledFrom([]time.Duration{time.Second, 10 * time.Second, lease}).Draw(t, "time"))
}
