//go:build unix

package e2e

import (
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/failpoint"
)

// webhook is an observer of all items with one webhook whose requests say which
// process sent them. The keys of the observer and of the action are written on
// lines of their own.
func webhook(name, url, observerKeys, actionKeys string) string {
	return fmt.Sprintf(`
[[observers]]
name = %q
entity = "Item"
%s
[[observers.actions]]
type = "webhook"
url = %q
headers = { %s = "${E2E_RUN}" }
%s
`, name, observerKeys, url+"/"+name, runHeader, actionKeys)
}

// round is one kill: the daemon is started, finds changes, and ends itself when
// it passes the place as often as said. With hold the receiver answers nothing
// until then; at no place it is the receiver that kills the daemon, while it
// holds as many requests.
type round struct {
	place string
	times int
	hold  bool
}

// victim is a site whose daemon is killed again and again.
type victim struct {
	*site

	shop *shop
	recv *receiver
	// observers are the names of its observers; modes says what it is about.
	modes     string
	observers []string
	rounds    []round
	kills     int

	items int64
	held  atomic.Pointer[holding]
	// refuse has every request refused for good.
	refuse atomic.Bool
}

// holding is a receiver that answers when release is closed.
type holding struct {
	release chan struct{}
	enough  int
	full    chan struct{}

	mu sync.Mutex
	n  int
}

func newHolding(enough int) *holding {
	return &holding{release: make(chan struct{}), full: make(chan struct{}), enough: enough}
}

func (h *holding) enter() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.n++; h.n == h.enough {
		close(h.full)
	}
}

func (v *victim) answer(r receipt) int {
	if h := v.held.Load(); h != nil {
		h.enter()
		v.recv.hold(h.release)
	}
	switch {
	case v.refuse.Load():
		return http.StatusUnprocessableEntity
	case r.change.version%5 == 0 && r.attempt == 1:
		return http.StatusServiceUnavailable
	}
	return http.StatusOK
}

func newVictim(t *testing.T, on flavour, modes string) *victim {
	t.Helper()
	v := &victim{modes: modes}
	v.recv = newReceiver(t, v.answer)
	const once = `on_unknown = "dead_letter"`
	// A failed attempt is put off at once: its time is longer than the budget.
	retry := `retry = { max_attempts = 50, initial_delay_ms = 300, max_delay_ms = 300, backoff_strategy = "fixed", inline_budget = "100ms" }` + "\n"
	var text string
	switch modes {
	case "inline":
		v.observers = []string{"inline"}
		text = webhook("inline", v.recv.url(), retry, "")
		v.rounds = []round{
			{failpoint.Attempt, 6, false},
			{failpoint.Answered, 5, false},
			{failpoint.Stored, 2, false},
			{failpoint.Begun, 3, true},
			{failpoint.Claimed, 1, false},
			{failpoint.Settled, 1, false},
			{"", 4, true},
		}
	case "queued":
		v.observers = []string{"queued"}
		text = webhook("queued", v.recv.url(), retry+`mode = "queued"`, "")
		v.rounds = []round{
			{failpoint.Stored, 6, false},
			{failpoint.Claimed, 1, false},
			{failpoint.Attempt, 5, false},
			{failpoint.Answered, 4, false},
			{failpoint.Settled, 3, false},
			{"", 4, true},
		}
	case "once":
		v.observers = []string{"once", "once-queued"}
		text = webhook("once", v.recv.url(), retry, once) +
			webhook("once-queued", v.recv.url(), retry+`mode = "queued"`, once)
		v.rounds = []round{
			{failpoint.Begun, 3, false},
			{failpoint.Stored, 4, false},
			{failpoint.Attempt, 6, false},
			{failpoint.Answered, 6, false},
			{failpoint.Claimed, 2, false},
			{failpoint.Settled, 5, false},
			{"", 6, true},
		}
	}
	v.site = on.newSite(t, text)
	v.shop = newShop(v.site)
	return v
}

// work commits changes of new items, and two each of a few that are always the
// same.
func (v *victim) work() {
	v.t.Helper()
	for range 10 {
		v.items++
		v.shop.put(100 + v.items)
	}
	for item := range int64(4) {
		v.shop.put(item%2 + 1)
	}
}

func (v *victim) begin(r round) {
	v.t.Helper()
	if r.hold {
		v.held.Store(newHolding(r.times))
	}
	env := []string{}
	if r.place != "" {
		env = append(env, fmt.Sprintf("FRAISEQL_FAILPOINT=%s:%d", r.place, r.times))
	}
	v.launchAs(mortal, env...)
}

// die waits for the end of the daemon that begin started.
func (v *victim) die(r round) {
	v.t.Helper()
	if r.place == "" {
		h := v.held.Load()
		eventually(v.t, "the receiver holds requests", func() bool { return isClosed(h.full) })
		v.signal(syscall.SIGKILL)
	}
	eventually(v.t, fmt.Sprintf("%s: the daemon is killed at %q", v.modes, r.place), func() bool { return isClosed(v.exited) })
	status, known := v.daemon.ProcessState.Sys().(syscall.WaitStatus)
	if !known || status.Signal() != syscall.SIGKILL {
		v.t.Fatalf("%s: the daemon ended at %q by itself: %s", v.modes, r.place, tail(v.log(), 5))
	}
	v.daemon = nil
	v.kills++
	if h := v.held.Swap(nil); h != nil {
		close(h.release)
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// TestKilledAtEveryStep kills daemons at every step of a delivery: of observers
// that try in line, that queue, and that must not send twice.
func TestKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	onEach(t, killedAtEveryStep)
}

func killedAtEveryStep(t *testing.T, on flavour) {
	t.Helper()
	var victims []*victim
	most := 0
	for _, modes := range []string{"inline", "queued", "once"} {
		v := newVictim(t, on, modes)
		victims = append(victims, v)
		most = max(most, len(v.rounds))
	}
	for n := range most {
		// The victims of a round live and die side by side.
		for _, v := range victims {
			if n < len(v.rounds) {
				v.work()
				v.begin(v.rounds[n])
			}
		}
		for _, v := range victims {
			if n < len(v.rounds) {
				v.die(v.rounds[n])
			}
		}
	}
	for _, v := range victims {
		v.start()
	}
	for _, v := range victims {
		v.settles()
		v.stop()
		v.check()
	}
}

// settles waits until nothing more happens by itself.
func (v *victim) settles() {
	v.t.Helper()
	slowly(v.t, v.modes+": everything is finished", func() bool {
		return v.waiting() == 0 && v.behind(v.checkpoint().Position) == 0
	})
}

// TestKilledWhileRequeueing kills the command that gives dead letters to the
// workers, in the middle of that, and has it run again.
func TestKilledWhileRequeueing(t *testing.T) {
	t.Parallel()
	onEach(t, killedWhileRequeueing)
}

func killedWhileRequeueing(t *testing.T, on flavour) {
	t.Helper()
	v := newVictim(t, on, "queued")
	v.refuse.Store(true)
	v.start()
	v.work()
	all := len(v.shop.all())
	eventually(t, "all are dead", func() bool { return v.states()[observer.Dead] == all })
	v.refuse.Store(false)
	const given = 3
	_, stderr, code := programWith(t, mortal, v.dir, []string{runVariable(0), fmt.Sprintf("FRAISEQL_FAILPOINT=%s:%d", failpoint.Requeued, given)},
		"dlq", "retry-all", "--queue", "--config", v.config())
	if code != -1 {
		t.Fatalf("the command ended by itself with %d: %s", code, stderr)
	}
	eventually(t, "what was given to the workers is delivered", func() bool { return v.states()[observer.Done] == given })
	if n := v.states()[observer.Dead]; n != all-given {
		t.Errorf("%d dead letters are left, want %d", n, all-given)
	}
	v.succeeds("dlq", "retry-all", "--queue")
	eventually(t, "all are delivered", func() bool { return v.states()[observer.Done] == all })
	v.stop()
	for _, d := range v.stored("") {
		if d.Redrives != 1 || len(d.Attempts) < 2 {
			t.Errorf("%s was given to the workers %d times and tried %d times", d.Key, d.Redrives, len(d.Attempts))
		}
	}
	v.check()
}

// keyed are the receipts of each key, in the order in which they came.
func (v *victim) keyed() map[string][]receipt {
	byKey := map[string][]receipt{}
	for _, r := range v.recv.receipts() {
		byKey[r.key] = append(byKey[r.key], r)
	}
	return byKey
}

// events are the ids of the committed changes, by the change.
func (v *victim) events() (ids []string) {
	v.t.Helper()
	ids = v.shop.log()
	if len(ids) != len(v.shop.all()) {
		v.t.Fatalf("the log has %d entries for %d changes", len(ids), len(v.shop.all()))
	}
	return ids
}
