//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// hook is an observer of all items with one webhook.
func hook(name, url string, more ...string) string {
	return fmt.Sprintf(`
[[observers]]
name = %q
entity = "Item"
%s
[[observers.actions]]
type = "webhook"
url = %q
`, name, strings.Join(more, "\n"), url+"/"+name)
}

// TestInvariant1CheckpointOnlyWhatIsHandled blocks one event among others. The
// saved position stays before it while what finished behind it is remembered,
// so that a killed and restarted daemon sends only the blocked one again.
func TestInvariant1CheckpointOnlyWhatIsHandled(t *testing.T) {
	t.Parallel()
	onEach(t, checkpointOnlyWhatIsHandled)
}

func checkpointOnlyWhatIsHandled(t *testing.T, on flavour) {
	t.Helper()
	const blocked, others = int64(1), 40
	release := make(chan struct{})
	recv := newReceiver(t, func(r receipt) int {
		if r.change.item == blocked && r.attempt == 1 {
			<-release
		}
		return http.StatusOK
	})
	t.Cleanup(func() { close(release) })
	s := on.newSite(t, "[performance]\nmax_concurrency = 1000\n"+hook("all", recv.url(), `retry = { inline_budget = "10m" }`))
	shop := newShop(s)
	shop.put(blocked)
	for item := range int64(others) {
		shop.put(item + 2)
	}
	s.start()

	// Another item may share the lane of the blocked one: that is not handled
	// and must not be called so. All the others come through.
	var finished []string
	eventually(t, "the checkpoint remembers what finished", func() bool {
		cp := s.checkpoint()
		finished = finished[:0]
		for _, r := range recv.receipts() {
			if accepted(r) {
				finished = append(finished, r.event)
			}
		}
		slices.Sort(finished)
		done := slices.Sorted(slices.Values(cp.Done))
		return len(finished) >= others-5 && slices.Equal(done, finished)
	})
	cp := s.checkpoint()
	if rows := s.behind(cp.Position); rows != others+1 {
		t.Fatalf("the saved position leaves %d rows, want all %d: the first one is not handled", rows, others+1)
	}
	if slices.Contains(cp.Done, shop.event(blocked)) {
		t.Fatal("the blocked event is called done")
	}

	s.kill()
	s.start()
	eventually(t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	s.stop()
	oracle{shop.all(), recv.receipts()}.check(t)
	for _, event := range finished {
		if n := recv.count(func(r receipt) bool { return r.event == event }); n != 1 {
			t.Errorf("event %s was done before the kill and was sent %d times", event, n)
		}
	}
	if n := recv.count(func(r receipt) bool { return r.change.item == blocked }); n != 2 {
		t.Errorf("the blocked event was sent %d times, want 2", n)
	}
	if rows := s.behind(s.checkpoint().Position); rows != 0 {
		t.Errorf("%d rows behind the checkpoint at the end", rows)
	}
}

// TestInvariant2HandledIsDurable kills the daemon at random moments while
// deliveries succeed, fail for good and are put off. Whatever the saved
// checkpoint calls handled must have been accepted, or be in the store.
func TestInvariant2HandledIsDurable(t *testing.T) {
	t.Parallel()
	onEach(t, handledIsDurable)
}

func handledIsDurable(t *testing.T, on flavour) {
	t.Helper()
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		<-time.After(time.Duration(r.change.version%5) * 10 * time.Millisecond) // so that a kill finds some in flight
		switch r.change.version % 3 {
		case 0:
			return http.StatusUnprocessableEntity // dead
		case 1:
			return http.StatusServiceUnavailable // scheduled: the wait is longer than a lane may sleep
		}
		return http.StatusOK
	})
	s := on.newSite(t, noBreaker+hook("all", recv.url(),
		`retry = { max_attempts = 2, initial_delay_ms = 60000, max_delay_ms = 60000, backoff_strategy = "fixed" }`))
	shop := newShop(s)
	stop := shop.load(r, 50, 300)
	var dead, waiting, done int
	// At least five kills, and more where the machine is too busy to get far.
	for n := 0; n < 5 || n < 50 && (dead == 0 || waiting == 0 || done == 0); n++ {
		s.start()
		pause(r, 200*time.Millisecond, 700*time.Millisecond)
		s.kill()
		dead, waiting, done = s.accountFor(shop, recv)
	}
	stop()
	t.Logf("at the last kill: %d dead, %d waiting, %d accepted", dead, waiting, done)
	if dead == 0 || waiting == 0 || done == 0 {
		t.Error("want some of each, or the test shows nothing")
	}
}

// accountFor checks that each covered event ended somewhere.
func (s *site) accountFor(shop *shop, recv *receiver) (dead, waiting, done int) {
	s.t.Helper()
	states := map[string]observer.State{}
	for _, d := range s.stored("") {
		states[d.Event.ID] = d.State
	}
	acceptedOf := map[string]bool{}
	for _, r := range recv.receipts() {
		if accepted(r) {
			acceptedOf[r.event] = true
		}
	}
	report := reporter{t: s.t}
	for event := range s.covered(shop) {
		state, stored := states[event]
		switch {
		case state == observer.Dead:
			dead++
		case stored && !state.Finished():
			waiting++
		case acceptedOf[event]:
			done++
		default:
			report.add("event %s is called handled, and is nowhere", event)
		}
	}
	report.end()
	return dead, waiting, done
}

// TestInvariant2DeadLetterSurvivesTheKillAfterIt kills the daemon as soon as
// the checkpoint has passed a failing event.
func TestInvariant2DeadLetterSurvivesTheKillAfterIt(t *testing.T) {
	t.Parallel()
	recv := newReceiver(t, func(receipt) int { return http.StatusGone })
	s := newSite(t, hook("all", recv.url()))
	shop := newShop(s)
	shop.put(1)
	s.start()
	eventually(t, "the checkpoint passes the event", func() bool { return s.behind(s.checkpoint().Position) == 0 })
	s.kill()
	list := s.stored(observer.Dead)
	if len(list) != 1 || list[0].Event.ID != shop.event(1) || list[0].Reason != observer.ReasonGone || len(list[0].Attempts) != 1 {
		t.Fatalf("dead letters: %+v", list)
	}
	s.start()
	s.stop()
	if n := len(recv.receipts()); n != 1 {
		t.Errorf("the dead event was sent %d times, want 1", n)
	}
}
