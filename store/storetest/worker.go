package storetest

import (
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	observer "github.com/fraiseql/observer"
)

// check compares the store with the model, and with what was seen before.
func (y *history) check(t *rapid.T) {
	ds, err := y.s.Deliveries(t.Context(), observer.DeliveryFilter{})
	if err != nil {
		t.Fatalf("list: %v", err)
	}
	want, got := map[string]core{}, map[string]core{}
	for _, r := range y.rows {
		want[r.Key] = coreOf(r.Delivery, y.shown(r))
	}
	seen := map[string]observer.State{}
	for _, d := range ds {
		got[d.Key] = coreOf(d, d.State)
		seen[d.Key] = d.State
		if before := y.seen[d.Key]; d.State != before && !slices.Contains(before.Next(), d.State) {
			t.Errorf("%s was %q and is %q now, which may not follow", d.Key, before, d.State)
		}
	}
	y.seen = seen
	wantMap(t, "deliveries", want, got)
	wantMap(t, "lanes", y.lanes(), y.storedLanes(t))
	if next := nextDue(t, y.s); !next.Equal(y.nextDue(false)) && !next.Equal(y.nextDue(true)) {
		t.Errorf("next due: got %v, want %v", next, y.nextDue(true))
	}
}

// wantMap is a quick wantDiff.
func wantMap[V comparable](t *rapid.T, what string, want, got map[string]V) {
	t.Helper()
	if !maps.Equal(want, got) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

// core is what the model knows about a delivery.
type core struct {
	state                 observer.State
	redrives, attempts    int
	created, updated, due time.Time
	owner                 string
	until                 time.Time
}

func coreOf(d *observer.Delivery, state observer.State) core {
	c := core{
		state: state, redrives: d.Redrives, attempts: len(d.Attempts),
		created: d.CreatedAt.UTC(),
	}
	if state.Finished() {
		c.updated = d.UpdatedAt.UTC() // retention counts from it
	}
	if state == observer.Running {
		c.owner, c.until = d.LeaseOwner, d.LeaseUntil.UTC()
	}
	if state.Due() {
		c.due = d.RunAt.UTC()
	}
	return c
}

func (y *history) lanes() map[string]string {
	lanes := map[string]string{}
	for _, r := range y.rows {
		if lanes[r.Key] = ""; r.Blocks() {
			lanes[r.Key] = r.Lane()
		}
	}
	return lanes
}

func (y *history) storedLanes(t *rapid.T) map[string]string {
	lanes := map[string]string{}
	if err := y.s.DeliveryKeys(t.Context(), func(key, lane string) { lanes[key] = lane }); err != nil {
		t.Fatalf("keys: %v", err)
	}
	return lanes
}

// nextDue is when a worker has something to do. A person may run what is not due
// yet; whether the end of that lease counts is left to the store.
func (y *history) nextDue(early bool) time.Time {
	var next time.Time
	for _, r := range y.rows {
		if !r.State.Due() {
			continue
		}
		at := r.RunAt
		if y.leased(r) && (early || at.Before(r.LeaseUntil)) {
			at = r.LeaseUntil
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next
}

// claimDue claims with some room and checks that places were shared out evenly.
func (y *history) claimDue(t *rapid.T) {
	limit := rapid.IntRange(0, 5).Draw(t, "limit")
	rooms := map[string]int{}
	for _, b := range []string{"|a", "|b", "q|a", "q|b"} {
		rooms[b] = rapid.IntRange(0, 4).Draw(t, "room")
	}
	waiting := map[string]int{}
	total := 0
	for _, r := range y.rows {
		if b := bandOf(r.Delivery); y.due(r) && waiting[b] < rooms[b] {
			waiting[b]++
			total++
		}
	}
	owner := y.owner()
	ds := claimRoom(t, y.s, owner, limit, func(queue, endpoint string) int { return rooms[queue+"|"+endpoint] })
	wantDiff(t, "claimed", min(limit, total), len(ds))
	got := shares(ds)
	for one, n := range got {
		if n > rooms[one] {
			t.Errorf("%s got %d, and has room for %d", one, n, rooms[one])
		}
		for other, m := range waiting {
			if got[other] < m && got[other] < n-1 {
				t.Errorf("%s got %d, while %s got %d of %d", one, n, other, got[other], m)
			}
		}
	}
	y.take(t, ds, owner)
}

// take checks that the first of each queue and endpoint were claimed, and tells
// the model.
func (y *history) take(t *rapid.T, ds []*observer.Delivery, owner string) {
	y.sent(t, ds)
	for _, d := range ds {
		r := y.find(d.Key)
		if r == nil || !y.due(r) {
			t.Fatalf("claimed %s, which is not due", d.Key)
		}
		y.claimed(t, d, owner)
	}
	for _, d := range ds {
		for _, r := range y.rows {
			if bandOf(r.Delivery) == bandOf(d) && y.due(r) && before(r.Delivery, d) {
				t.Errorf("claimed %s before %s", d.Key, r.Key)
			}
		}
	}
}

// before reports whether a goes before b in one queue to one endpoint.
func before(a, b *observer.Delivery) bool {
	priority := func(d *observer.Delivery) int {
		if d.Priority == 0 {
			return observer.DefaultPriority
		}
		return d.Priority
	}
	if priority(a) != priority(b) {
		return priority(a) < priority(b)
	}
	return a.RunAt.Before(b.RunAt)
}

// drain has a worker run everything and a person redrive what is dead, until all
// is done.
func (y *history) drain(t *rapid.T) {
	y.h.clock.advance(lease)
	prune(t, y.s, observer.Retention{}, 1)
	y.unblock()
	y.check(t)
	for rounds := 0; ; rounds++ {
		if rounds > 10*len(y.rows)+10 {
			t.Fatalf("there is always something left to do: %v", y.seen)
		}
		next := nextDue(t, y.s)
		if next.IsZero() && !y.redrive(t) {
			break
		}
		y.h.clock.advance(max(0, next.Sub(y.now())))
		owner := y.owner()
		ds := claimDue(t, y.s, owner, 100)
		y.take(t, ds, owner)
		y.check(t)
		for _, d := range ds {
			d.Succeed()
			update(t, y.s, d, owner)
			y.model.update(d)
		}
		y.check(t)
	}
	for key, state := range y.seen {
		if !state.Finished() {
			t.Errorf("%s is %s, and nothing is due", key, state)
		}
	}
}

// redrive requeues the first dead letter.
func (y *history) redrive(t *rapid.T) bool {
	for _, r := range y.rows {
		if r.State == observer.Dead {
			state := requeue(t, y.s, r.Key, y.now())
			if may := y.model.requeue(r, y.now()); !slices.Contains(may, state) {
				t.Errorf("redrive %s: got %s, want one of %q", r.Key, state, may)
			}
			y.check(t)
			return true
		}
	}
	return false
}

// testLaneHistory has workers, crashes and redrives of what keeps a lane waiting.
// Then the promises of the orders hold without exception.
func testLaneHistory(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	rapid.Check(t, func(t *rapid.T) {
		y := newHistory(t, h, s)
		y.sent = y.inOrder
		t.Repeat(map[string]func(*rapid.T){
			"insert":    y.insertQueued,
			"claim due": y.claimDue,
			"update":    y.update,
			"update 2":  y.update,
			"wait":      y.wait,
			"redrive": func(t *rapid.T) {
				r := y.pick(t, func(r *modelRow) bool { return r.State == observer.Dead && r.Blocks() && !y.leased(r) })
				wantDiff(t, "new state", observer.Queued, requeue(t, s, r.Key, y.now()))
				y.model.requeue(r, y.now())
			},
			"": y.check,
		})
	})
}

// insertQueued stores events that all have the order of their entity.
func (y *history) insertQueued(t *rapid.T) {
	var ds []*observer.Delivery
	for range rapid.IntRange(1, 3).Draw(t, "events") {
		for _, d := range y.event(t) {
			d.Order = observer.OrderStrict
			if d.Event.EntityID == "y" {
				d.Order = observer.OrderEntity
			}
			ds = append(ds, d)
		}
	}
	y.store(t, ds)
}

// inOrder checks that ds may be sent now.
func (y *history) inOrder(t *rapid.T, ds []*observer.Delivery) {
	for i, d := range ds {
		for _, earlier := range y.rows {
			if earlier.Key == d.Key {
				break
			}
			if earlier.Lane() == d.Lane() && earlier.Event.ID != d.Event.ID {
				y.mayFollow(t, d, earlier)
			}
		}
		for _, other := range ds[:i] {
			if d.Order == observer.OrderStrict && other.Lane() == d.Lane() && other.Event.ID != d.Event.ID {
				t.Errorf("%s and %s are sent at once", d.Key, other.Key)
			}
		}
	}
}

// mayFollow checks that d may be sent after what is earlier in its lane.
func (y *history) mayFollow(t *rapid.T, d *observer.Delivery, earlier *modelRow) {
	over := earlier.State.Finished() && (earlier.State != observer.Dead || !earlier.BlockWhenDead)
	if d.Order == observer.OrderStrict && !over {
		t.Errorf("%s is sent while %s, which is earlier, is %s", d.Key, earlier.Key, y.shown(earlier))
	}
	if d.Order == observer.OrderEntity && len(earlier.Attempts) == 0 {
		t.Errorf("%s is sent before the first attempt at %s", d.Key, earlier.Key)
	}
}
