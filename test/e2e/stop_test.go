//go:build unix

package e2e

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer"
)

// TestInvariant7SigtermLosesAndRepeatsNothing stops and starts the daemon under
// load while retries are waiting.
func TestInvariant7SigtermLosesAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	onEach(t, sigtermLosesAndRepeatsNothing)
}

func sigtermLosesAndRepeatsNothing(t *testing.T, on flavour) {
	t.Helper()
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		if r.change.version%5 == 0 && r.attempt < 3 {
			return http.StatusServiceUnavailable
		}
		<-time.After(time.Duration(r.change.version%10) * time.Millisecond)
		return http.StatusOK
	})
	s := on.newSite(t, noBreaker+hook("all", recv.url(), `retry = { max_attempts = 20, initial_delay_ms = 400, max_delay_ms = 500 }`))
	shop := newShop(s)
	stop := shop.load(r, 60, 200)
	putOff, stops := 0, 0
	for ; stops < 6 || stops < 50 && putOff == 0; stops++ {
		s.start()
		pause(r, 300*time.Millisecond, 900*time.Millisecond)
		s.stop()
		putOff += s.states()[observer.Scheduled]
	}
	stop()
	s.start()
	eventually(t, "everything arrives", func() bool {
		return len(oracle{shop.all(), recv.receipts()}.outstanding()) == 0
	})
	s.stop()
	o := oracle{shop.all(), recv.receipts()}
	o.check(t)
	if list := o.repetitions(); len(list) > 0 {
		t.Errorf("%d deliveries were repeated, the first is %+v", len(list), list[0])
	}
	if left := s.left(); len(left) > 0 {
		t.Errorf("%d deliveries are still in the store, the first: %+v", len(left), left[0])
	}
	t.Logf("%d changes, %d requests, %d retries pending over %d stops", len(o.committed), len(o.receipts), putOff, stops)
	if putOff == 0 {
		t.Error("no retry was pending at any stop, so the test shows nothing")
	}
}

// TestInvariant7SigkillLosesNothing kills the daemon at random moments under
// load. What may be sent again is what the checkpoint that the kill left behind
// does not cover: what was in flight, and what finished since the last save.
func TestInvariant7SigkillLosesNothing(t *testing.T) {
	t.Parallel()
	onEach(t, sigkillLosesNothing)
}

func sigkillLosesNothing(t *testing.T, on flavour) {
	t.Helper()
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		if r.change.version%13 == 0 && r.attempt == 1 {
			return http.StatusServiceUnavailable
		}
		<-time.After(time.Duration(r.change.version%7) * 10 * time.Millisecond) // so that a kill finds some in flight
		return http.StatusOK
	})
	s := on.newSite(t, noBreaker+hook("all", recv.url(), `retry = { max_attempts = 20, initial_delay_ms = 20, max_delay_ms = 50 }`))
	const kills = 10
	k := &killings{site: s, shop: newShop(s), recv: recv}
	k.underLoad(r, 40, kills)
	eventually(t, "everything arrives", k.arrived)
	s.stop()
	k.checkRepetitions(k.check(), lateSave)
}

// killings are what SIGKILL did to a site under load.
type killings struct {
	*site

	shop *shop
	recv *receiver
	// afterwards, if set, is called after each kill.
	afterwards func()

	killed []killing
	first  map[string]time.Time // event -> the kill whose checkpoint first covers it
}

// killing is from when a daemon was killed, and until when no other was started:
// what it had sent may still arrive in between.
type killing struct{ from, until time.Time }

// underLoad starts and kills the daemon at random moments, and starts it once
// more when the load has ended.
func (k *killings) underLoad(r *rand.Rand, items, kills int) {
	k.t.Helper()
	k.first = map[string]time.Time{}
	stop := k.shop.load(r, items, 300)
	for range kills {
		k.start()
		pause(r, 100*time.Millisecond, 600*time.Millisecond)
		from := time.Now()
		k.kill()
		covered := k.covered(k.shop)
		if k.afterwards != nil {
			k.afterwards()
		}
		k.note(killing{from, time.Now()}, covered)
	}
	stop()
	k.start()
}

// note takes note of a kill, and of what the checkpoint that it left covers.
func (k *killings) note(at killing, covered map[string]bool) {
	k.killed = append(k.killed, at)
	for event := range covered {
		if _, before := k.first[event]; !before {
			k.first[event] = at.until
		}
	}
}

// arrived reports whether every change was accepted.
func (k *killings) arrived() bool { return len(k.oracle().outstanding()) == 0 }

func (k *killings) oracle() oracle { return oracle{k.shop.all(), k.recv.receipts()} }

func (k *killings) check() oracle {
	k.t.Helper()
	o := k.oracle()
	o.check(k.t)
	return o
}

// lateSave is how old an acceptance may be at a kill and still be repeated: the
// checkpoint is saved 20 ms after something finished, and on a busy machine
// with a slow disk the save itself takes a while.
const lateSave = 2 * time.Second

// checkRepetitions: only a kill causes them, of what the checkpoint does not
// cover and was accepted no longer than late before.
func (k *killings) checkRepetitions(o oracle, late time.Duration) {
	t, killed := k.t, k.killed
	t.Helper()
	list := o.repetitions()
	report := reporter{t: t}
	var oldest time.Duration
	perKill := make([]int, len(killed))
	for _, rep := range list {
		if at, known := k.first[rep.event]; known && at.Before(rep.again) {
			report.add("%s was sent again at %s, although the checkpoint of %s covers it", rep.key, rep.again, at)
		}
		i, _ := slices.BinarySearchFunc(killed, rep.since, func(one killing, at time.Time) int { return one.until.Compare(at) })
		if i == len(killed) || killed[i].until.After(rep.again) {
			report.add("%s was repeated with no kill between %s and %s", rep.key, rep.since, rep.again)
			continue
		}
		perKill[i]++
		oldest = max(oldest, killed[i].from.Sub(rep.since))
	}
	report.end()
	t.Logf("%d changes, %d kills, %d repetitions (%v per kill), the oldest was accepted %s before its kill",
		len(o.committed), len(killed), len(list), perKill, oldest)
	if oldest > late {
		t.Errorf("a repeated delivery had been accepted %s before the kill: more than was in flight", oldest)
	}
}

// TestSigtermWhileStarting asks the daemon to end at a random moment of its
// start. It ends cleanly, or as by default when it does not listen yet.
func TestSigtermWhileStarting(t *testing.T) {
	t.Parallel()
	onEach(t, sigtermWhileStarting)
}

func sigtermWhileStarting(t *testing.T, on flavour) {
	t.Helper()
	r := random(t)
	s := on.newSite(t, hook("all", "http://127.0.0.1:1"))
	newShop(s)
	for range 15 {
		s.launch()
		pause(r, 0, 120*time.Millisecond)
		s.signal(syscall.SIGTERM)
		state := s.daemon.ProcessState
		status, isStatus := state.Sys().(syscall.WaitStatus)
		if code := state.ExitCode(); code != 0 && (!isStatus || status.Signal() != syscall.SIGTERM) {
			t.Errorf("the daemon ended with %d: %s", code, tail(s.log(), 3))
		}
	}
	s.daemon = nil
}
