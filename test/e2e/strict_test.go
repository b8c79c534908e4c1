//go:build unix

package e2e

import (
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/fraiseql/observer"
)

// TestStrictOrder has changes that fail at first and changes that fail for good
// in strict observers, over a kill and a stop. What comes later of an entity
// waits; where a dead letter blocks, until a person has it run again.
func TestStrictOrder(t *testing.T) {
	t.Parallel()
	onEach(t, strictOrder)
}

// strictNotes are the changes of each item, in order.
var strictNotes = []string{"good", "flaky", "good", "bad", "good", "flaky", "good"} //nolint:gochecknoglobals // a constant

func strictOrder(t *testing.T, on flavour) {
	t.Helper()
	const items = 5
	var mended atomic.Bool
	recv := newReceiver(t, func(r receipt) int {
		switch {
		case r.note == "flaky" && r.attempt < 3:
			return http.StatusServiceUnavailable
		case r.note == "bad" && !mended.Load():
			return http.StatusUnprocessableEntity
		}
		return http.StatusOK
	})
	const strict = "order = \"strict\"\n" +
		`retry = { max_attempts = 50, initial_delay_ms = 200, max_delay_ms = 200, backoff_strategy = "fixed", inline_budget = "100ms" }` + "\n"
	s := on.newSite(t, noBreaker+hook("goes", recv.url(), strict)+hook("blocks", recv.url(), strict+`on_dead = "block"`))
	shop := newShop(s)
	s.start()
	for n, note := range strictNotes {
		for item := range int64(items) {
			shop.putNoted(item+1, note)
		}
		switch n {
		case 1:
			eventually(t, "some have failed", func() bool { return recv.count(refused) > 0 })
			s.kill()
			s.start()
		case 4:
			s.stop()
			s.start()
		}
	}
	behindDead := len(strictNotes) - 1 - slices.Index(strictNotes, "bad")
	slowly(t, "one observer went on, the other one waits behind its dead letters", func() bool {
		states := s.states()
		return states[observer.Dead] == 2*items && states[observer.Parked] == behindDead*items &&
			s.waiting() == behindDead*items && s.behind(s.checkpoint().Position) == 0
	})
	strictly(t, shop, recv, "goes", len(strictNotes))
	strictly(t, shop, recv, "blocks", len(strictNotes)-behindDead)

	mended.Store(true)
	s.restartQuickly()
	s.succeeds("dlq", "retry-all", "--queue", "--observer", "blocks")
	slowly(t, "the other one goes on", func() bool { return s.waiting() == 0 })
	s.stop()
	strictly(t, shop, recv, "blocks", len(strictNotes))
	if n := s.states()[observer.Dead]; n != items {
		t.Errorf("%d dead letters are left, want the %d of the observer that went on", n, items)
	}
}

// restartQuickly shows that what is parked needs no process that remembers it.
func (s *site) restartQuickly() {
	s.t.Helper()
	s.kill()
	s.start()
}

// strictly checks that the first each changes of every item came, and each only
// after the one before it was accepted or refused for good. Later repetitions of
// what was accepted, which a kill causes, are not about order.
func strictly(t *testing.T, shop *shop, recv *receiver, name string, each int) {
	t.Helper()
	began, ended := map[change]int{}, map[change]int{}
	for at, r := range recv.receipts() {
		if !strings.HasSuffix(r.path, "/"+name) {
			continue
		}
		if _, seen := began[r.change]; !seen {
			began[r.change] = at
		}
		if _, seen := ended[r.change]; !seen && (accepted(r) || r.status == http.StatusUnprocessableEntity) {
			ended[r.change] = at
		}
	}
	report, before, came := reporter{t: t}, map[int64]change{}, map[int64]int{}
	for _, c := range shop.all() {
		at, did := began[c]
		if !did {
			continue
		}
		if last, there := before[c.item]; there {
			if end, finished := ended[last]; !finished || end > at {
				report.add("%s: %+v was sent before %+v was finished", name, c, last)
			}
		}
		before[c.item] = c
		came[c.item]++
	}
	for item, n := range came {
		if n != each {
			report.add("%s: %d changes of item %d came, want %d", name, n, item, each)
		}
	}
	report.end()
}
