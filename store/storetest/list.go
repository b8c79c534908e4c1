package storetest

import (
	"slices"
	"testing"
	"time"

	observer "github.com/fraiseql/observer"
)

func listTests() map[string]func(*testing.T, *harness) {
	return map[string]func(*testing.T, *harness){
		"list/oldest first":                  testListOrder,
		"list/pages":                         testListPages,
		"list/filters":                       testListFilters,
		"list/what is leased is running":     testListRunning,
		"list/order is not moved by updates": testListStable,
		"keys/of every delivery":             testKeys,
		"keys/with the lanes they block":     testKeysLanes,
		"remove/unknown, leased, then free":  testRemove,
		"context/ended: nothing changes":     testContextEnded,
	}
}

func testListOrder(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	for _, n := range []int{5, 3, 9, 1} {
		insert(t, s, dead(n))
		h.clock.advance(time.Microsecond)
	}
	wantDiff(t, "order", keysOf(dead(5), dead(3), dead(9), dead(1)), list(t, s, observer.DeliveryFilter{}))
}

// testListPages is about deliveries stored at the same time: each is on one page.
func testListPages(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	var ds []*observer.Delivery
	for n := range 20 {
		ds = append(ds, dead(n))
	}
	insert(t, s, ds...)
	var paged []string
	for offset := range 20 {
		paged = append(paged, list(t, s, observer.DeliveryFilter{Offset: offset, Limit: 1})...)
	}
	slices.Sort(paged)
	wantDiff(t, "all pages", keys(ds), paged)
}

func keysAndLanes(t *testing.T, s observer.StateStore) map[string]string {
	t.Helper()
	got := map[string]string{}
	err := s.DeliveryKeys(t.Context(), func(key, lane string) {
		if _, twice := got[key]; twice {
			t.Errorf("key %q came twice", key)
		}
		got[key] = lane
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func testKeys(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	wantDiff(t, "keys of an empty store", map[string]string{}, keysAndLanes(t, s))
	insert(t, s, dead(5), scheduled(3, h.clock.Now()), dead(1), queued(2, h.clock.Now()), malformed())
	finish(t, s, delivery(2).Key)
	remove(t, s, dead(5).Key)
	wantDiff(t, "keys", map[string]string{
		delivery(1).Key: "", delivery(2).Key: "", delivery(3).Key: "", malformed().Key: "",
	}, keysAndLanes(t, s))
}

// testKeysLanes is about every state in both orders. The malformed entry has no
// lane whatever its order.
func testKeysLanes(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	want := map[string]string{}
	for n, d := range everyBlocking(t, s) {
		want[d.Key] = ""
		if d.Blocks() {
			want[d.Key] = d.Lane()
		}
		blocked, err := s.Blocked(t.Context(), d.Lane(), "another")
		if err != nil || blocked != d.Blocks() {
			t.Errorf("%d, %s, order %q, %d attempts, blocking when dead %v: blocked %v, error %v",
				n, d.State, d.Order, len(d.Attempts), d.BlockWhenDead, blocked, err)
		}
	}
	odd := malformed()
	odd.Order, odd.BlockWhenDead = observer.OrderStrict, true
	insert(t, s, odd)
	want[odd.Key] = ""
	wantDiff(t, "keys and lanes", want, keysAndLanes(t, s))
}

// everyBlocking stores one delivery, in a lane of its own, for every way that a
// delivery not parked may or may not block.
func everyBlocking(t *testing.T, s observer.StateStore) []*observer.Delivery {
	t.Helper()
	var all []*observer.Delivery
	for _, order := range []observer.Order{"", observer.OrderNone, observer.OrderEntity, observer.OrderStrict} {
		for _, state := range []observer.State{
			observer.Queued, observer.Scheduled, observer.Unknown, observer.Done, observer.Dropped, observer.Dead,
		} {
			for attempts := range 2 {
				d := queued(len(all), time.Time{})
				d.Order, d.BlockWhenDead = order, len(all)%2 == 0
				d.Attempts = make([]observer.Attempt, attempts)
				insert(t, s, d)
				d.State = state
				claim(t, s, d.Key, "a")
				update(t, s, d, "a")
				all = append(all, d)
			}
		}
	}
	for _, block := range []bool{true, false} {
		d := dead(len(all))
		d.Order, d.BlockWhenDead = observer.OrderStrict, block
		insert(t, s, d)
		all = append(all, d)
	}
	return all
}

// listed stores 0 to 9, a minute apart; odd ones are dead, multiples of 3 are
// of the observer "third", and 7 differs in everything that filters ask for.
func listed(t *testing.T, h *harness) (s observer.StateStore, start time.Time) {
	t.Helper()
	s, start = h.store(t, Options{}), h.clock.Now()
	for n := range 10 {
		d := scheduled(n, h.clock.Now())
		if n%2 == 1 {
			d = dead(n)
		}
		if n%3 == 0 {
			d.Observer = "third"
		}
		d.Queue, d.Endpoint = "mail", "smtp://mail"
		if n == 7 {
			d.Action, d.ActionType, d.Queue, d.Endpoint = 3, "slack", "reports", "https://example.com"
			d.Event.EntityType, d.Event.EntityID = "Invoice", "77"
			d.Reason, d.Error = observer.ReasonGone, "status 410"
		}
		insert(t, s, d)
		h.clock.advance(time.Minute)
	}
	return s, start
}

func testListFilters(t *testing.T, h *harness) {
	s, start := listed(t, h)
	insert(t, s, malformed()) // stored last: 10
	zero, three := 0, 3
	all, others := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10}, []int{0, 1, 2, 3, 4, 5, 6, 8, 9}
	for name, test := range map[string]struct {
		filter observer.DeliveryFilter
		want   []int
	}{
		"all":              {observer.DeliveryFilter{}, all},
		"dead":             {observer.DeliveryFilter{State: observer.Dead}, []int{1, 3, 5, 7, 9, 10}},
		"scheduled":        {observer.DeliveryFilter{State: observer.Scheduled}, []int{0, 2, 4, 6, 8}},
		"no such state":    {observer.DeliveryFilter{State: observer.Done}, nil},
		"observer":         {observer.DeliveryFilter{Observer: "third"}, []int{0, 3, 6, 9}},
		"no such observer": {observer.DeliveryFilter{Observer: "thir%"}, nil},
		"action 0":         {observer.DeliveryFilter{Action: &zero}, append(others, 10)},
		"action 3":         {observer.DeliveryFilter{Action: &three}, []int{7}},
		"action type":      {observer.DeliveryFilter{ActionType: "webhook"}, others},
		"queue":            {observer.DeliveryFilter{Queue: "reports"}, []int{7}},
		"endpoint":         {observer.DeliveryFilter{Endpoint: "smtp://mail"}, others},
		"no such endpoint": {observer.DeliveryFilter{Endpoint: "smtp"}, nil},
		"entity type":      {observer.DeliveryFilter{EntityType: "Invoice"}, []int{7}},
		"malformed entity": {observer.DeliveryFilter{EntityType: "Order", EntityID: "9"}, []int{9, 10}},
		"entity id":        {observer.DeliveryFilter{EntityID: "4"}, []int{4}},
		"event id":         {observer.DeliveryFilter{EventID: "event-000004"}, []int{4}},
		"reason":           {observer.DeliveryFilter{Reason: observer.ReasonGone}, []int{7}},
		"fingerprint":      {observer.DeliveryFilter{Fingerprint: observer.Fingerprint("status 400")}, []int{1, 3, 5, 9}},
		"since":            {observer.DeliveryFilter{Since: start.Add(7 * time.Minute)}, []int{7, 8, 9, 10}},
		"just after":       {observer.DeliveryFilter{Since: start.Add(7*time.Minute + time.Microsecond)}, []int{8, 9, 10}},
		"until":            {observer.DeliveryFilter{Until: start.Add(2 * time.Minute)}, []int{0, 1}},
		"just until":       {observer.DeliveryFilter{Until: start.Add(2*time.Minute + time.Microsecond)}, []int{0, 1, 2}},
		"limit":            {observer.DeliveryFilter{Limit: 2}, []int{0, 1}},
		"offset":           {observer.DeliveryFilter{Offset: 8}, []int{8, 9, 10}},
		"page":             {observer.DeliveryFilter{Offset: 4, Limit: 3}, []int{4, 5, 6}},
		"page of dead":     {observer.DeliveryFilter{State: observer.Dead, Offset: 1, Limit: 2}, []int{3, 5}},
		"last page":        {observer.DeliveryFilter{Offset: 10, Limit: 3}, []int{10}},
		"past the end":     {observer.DeliveryFilter{Offset: 99, Limit: 3}, nil},
		"everything": {observer.DeliveryFilter{
			State: observer.Dead, Observer: "third", Action: &zero, ActionType: "webhook", Queue: "mail", Endpoint: "smtp://mail",
			EntityType: "Order", Reason: observer.ReasonPermanent, Fingerprint: observer.Fingerprint("status 400"),
			Since: start.Add(time.Minute), Until: start.Add(time.Hour), Offset: 1, Limit: 5,
		}, []int{9}},
	} {
		var want []string
		for _, n := range test.want {
			key := delivery(n).Key
			if n == 10 {
				key = malformed().Key
			}
			want = append(want, key)
		}
		wantDiff(t, name, want, list(t, s, test.filter))
	}
}

func testListRunning(t *testing.T, h *harness) {
	s, _ := listed(t, h)
	claim(t, s, delivery(3).Key, "a")
	claim(t, s, delivery(4).Key, "a")
	wantDiff(t, "running", keysOf(delivery(3), delivery(4)), list(t, s, observer.DeliveryFilter{State: observer.Running}))
	wantDiff(t, "dead", keysOf(delivery(1), delivery(5), delivery(7), delivery(9)), list(t, s, observer.DeliveryFilter{State: observer.Dead}))
	ds, err := s.Deliveries(t.Context(), observer.DeliveryFilter{State: observer.Running})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range ds {
		wantDiff(t, "as listed", d, get(t, s, d.Key))
	}
	h.clock.advance(lease)
	wantDiff(t, "running", keysOf(), list(t, s, observer.DeliveryFilter{State: observer.Running}))
	wantDiff(t, "dead", 5, len(list(t, s, observer.DeliveryFilter{State: observer.Dead})))
}

func testListStable(t *testing.T, h *harness) {
	s, _ := listed(t, h)
	before := list(t, s, observer.DeliveryFilter{})
	for _, n := range []int{7, 2} {
		update(t, s, claimOf(t, s, delivery(n).Key, "a"), "a")
	}
	finish(t, s, delivery(1).Key)
	requeue(t, s, delivery(3).Key, h.clock.Now())
	wantDiff(t, "order", before, list(t, s, observer.DeliveryFilter{}))
}

func testRemove(t *testing.T, h *harness) {
	s := h.store(t, Options{})
	insert(t, s, dead(1), scheduled(2, h.clock.Now()))
	wantError(t, "remove unknown", s.RemoveDelivery(t.Context(), "nothing"), observer.ErrNotFound)
	claim(t, s, dead(1).Key, "a")
	wantError(t, "remove leased", s.RemoveDelivery(t.Context(), dead(1).Key), observer.ErrBusy)
	wantDiff(t, "stored", keysOf(dead(1), dead(2)), list(t, s, observer.DeliveryFilter{}))
	h.clock.advance(lease)
	remove(t, s, dead(1).Key)
	remove(t, s, dead(2).Key)
	wantDiff(t, "stored", keysOf(), list(t, s, observer.DeliveryFilter{}))
	wantError(t, "remove again", s.RemoveDelivery(t.Context(), dead(1).Key), observer.ErrNotFound)
}
