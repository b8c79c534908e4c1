//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/failpoint"
)

// TestStrictOrderAcrossDaemons: what waits in strict order is in the state store,
// and who takes over a database knows of it, although it stood by while it was
// stored.
func TestStrictOrderAcrossDaemons(t *testing.T) {
	t.Parallel()
	onEach(t, strictOrderAcrossDaemons)
}

func strictOrderAcrossDaemons(t *testing.T, on flavour) {
	t.Helper()
	const items, each = 5, 4
	recv := newReceiver(t, func(r receipt) int {
		// One alone fails: an endpoint that fails gets nothing in line any more.
		if r.note == "flaky" && r.change.item%10 == 1 && r.attempt == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	s := on.newSite(t, noBreaker+webhook("all", recv.url(), "order = \"strict\"\n"+
		`retry = { max_attempts = 50, initial_delay_ms = 3000, max_delay_ms = 3000, backoff_strategy = "fixed", inline_budget = "100ms" }`, ""))
	shop := newShop(s)
	put := func(phase int64, note string) {
		for item := range int64(items) {
			shop.putNoted(10*phase+item+1, note)
		}
	}
	reading, standing := s.pair()
	for phase, end := range []func(*peer){(*peer).leave, (*peer).crash} {
		put(int64(phase), "good")
		put(int64(phase), "flaky")
		slowly(t, "a delivery waits that was stored by the one that reads", func() bool {
			return s.waiting() > 0 && s.behind(s.checkpoint().Position) == 0
		})
		end(reading)
		standing.logs("lease taken", "lease=database/"+sourceName)
		put(int64(phase), "good")
		put(int64(phase), "good")
		eventually(t, "they are read", func() bool { return s.behind(s.checkpoint().Position) == 0 })
		reading, standing = standing, s.join()
	}
	slowly(t, "everything is finished", func() bool { return s.waiting() == 0 && s.behind(s.checkpoint().Position) == 0 })
	reading.leave()
	reading.left()
	standing.leave()
	standing.left()
	oracle{shop.all(), recv.receipts()}.check(t)
	strictly(t, shop, recv, "all", each)
}

// TestInvariant7StoredDeliveryIsNotRunByTheNextReader kills the daemon that reads
// when it has stored deliveries and saved no checkpoint. The one that stood by
// gets their events, and knows that they are stored.
func TestInvariant7StoredDeliveryIsNotRunByTheNextReader(t *testing.T) {
	t.Parallel()
	onEach(t, storedIsNotRunByTheNextReader)
}

func storedIsNotRunByTheNextReader(t *testing.T, on flavour) {
	t.Helper()
	const changes, killedAt = 5, 2
	recv := newReceiver(t, func(receipt) int { return http.StatusUnprocessableEntity })
	s := on.newSite(t, noBreaker+tagged(recv.url()))
	shop := newShop(s)
	reading := s.joinAs(mortal, fmt.Sprintf("FRAISEQL_FAILPOINT=%s:%d", failpoint.Stored, killedAt))
	reading.logs("lease taken")
	standing := s.join()
	for item := range int64(changes) {
		shop.put(item + 1)
	}
	eventually(t, "the daemon is killed", func() bool { return isClosed(reading.exited) })
	kept := map[string]bool{}
	for _, d := range s.stored(observer.Dead) {
		kept[d.Key] = true
	}
	if len(kept) < killedAt {
		t.Fatalf("%d dead letters were stored before the kill, want %d at least", len(kept), killedAt)
	}
	eventually(t, "all are dead letters", func() bool {
		return len(s.stored(observer.Dead)) == changes && s.behind(s.checkpoint().Position) == 0
	})
	for _, r := range recv.receipts() {
		if r.run == standing.run && kept[r.key] {
			t.Errorf("%s was stored by the daemon that was killed, and sent again", r.key)
		}
	}
}

// TestWorkIsSharedBesideReading: the daemon that stands by, and a process that
// only works, run what is stored as well; each delivery is run by one of them,
// also when the one that reads is killed.
func TestWorkIsSharedBesideReading(t *testing.T) {
	t.Parallel()
	onEach(t, workIsSharedBesideReading)
}

func workIsSharedBesideReading(t *testing.T, on flavour) {
	t.Helper()
	const first, more = 150, 60
	recv := newReceiver(t, func(receipt) int {
		<-time.After(20 * time.Millisecond)
		return http.StatusOK
	})
	s := on.newSite(t, "")
	s.queue = "worker_concurrency = 3\npoll_interval_ms = 50\n"
	s.configure(webhook("queued", recv.url(), `mode = "queued"`, ""))
	shop := newShop(s)
	reading, standing := s.pair()
	s.worker()
	worker := s.runs
	for item := range int64(first) {
		shop.put(item + 1)
	}
	s.arrived(shop, recv)
	by := map[int]int{}
	for _, r := range recv.receipts() {
		by[r.run]++
	}
	if len(recv.receipts()) != first || by[reading.run] == 0 || by[standing.run] == 0 || by[worker] == 0 {
		t.Errorf("%d requests for %d changes, by the processes: %v", len(recv.receipts()), first, by)
	}
	reading.crash()
	at := time.Now()
	for item := range int64(more) {
		shop.put(item + 1)
	}
	slowly(t, "everything is done", func() bool { return s.states()[observer.Done] == first+more })
	standing.leave()
	standing.left()
	o := oracle{shop.all(), recv.receipts()}
	o.check(t)
	for _, rep := range o.repetitions() {
		if rep.since.Before(at.Add(-time.Second)) {
			t.Errorf("%s was accepted at %s, and sent again", rep.key, rep.since)
		}
	}
	for _, r := range o.receipts {
		if r.at.After(at) && r.run == reading.run {
			t.Errorf("the daemon that was killed sent %+v", r)
		}
	}
}

// TestReloadWhileStandingBy: a daemon that stands by takes a new configuration
// too, and works by it once it reads.
func TestReloadWhileStandingBy(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, ok)
	s := onSQLite.newSite(t, webhook("before", recv.url(), "", ""))
	shop := newShop(s)
	reading, standing := s.pair()
	s.configure(webhook("after", recv.url(), "", ""))
	reading.logs("configuration reloaded")
	standing.logs("configuration reloaded")
	reading.leave()
	reading.left()
	shop.put(1)
	s.arrived(shop, recv)
	if list := recv.receipts(); len(list) != 1 || list[0].path != "/after" || list[0].run != standing.run {
		t.Errorf("received %+v", list)
	}
}
