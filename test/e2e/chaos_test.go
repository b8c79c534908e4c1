//go:build unix

package e2e

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// chaos is for how long processes and servers are killed.
const chaos = 40 * time.Second

// TestFleetUnderChaos: two bridges over two databases and three workers, under
// load, while workers are killed and stopped past their leases, bridges are
// killed, and so is the NATS server. Nothing is lost, the changes of an entity
// keep their order, and what is repeated has the same key and a reason.
func TestFleetUnderChaos(t *testing.T) {
	t.Parallel()
	long(t)
	r := random(t)
	recv := newReceiver(t, func(r receipt) int {
		<-time.After(time.Duration(r.change.version%7) * 10 * time.Millisecond) // so that a kill finds some in flight
		if r.change.version%13 == 0 && r.attempt == 1 {
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	f := newFleet(t, server.URL(), recv, noBreaker+webhook("all", recv.url(), `retry = { max_attempts = 50, initial_delay_ms = 20, max_delay_ms = 200 }`, ""))
	f.databases(onPostgres, onSQLite)
	f.crew(2, 3)
	f.start()
	stop := f.load(r, 60, 80)
	plan := f.plan(r, chaos)
	plan = append(plan, serverPlan(t, r, server, chaos)...)
	run(t, plan)
	f.start()
	stop()
	f.arrived()
	f.stop()
	f.check()
	f.leftNothing()
}

// long marks a test that takes half a minute or so.
func long(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes long")
	}
}

// step is something that is done at a time after the beginning.
type step struct {
	at   time.Duration
	what string
	do   func()
}

// run does the steps one after the other, each not before its time.
func run(t *testing.T, plan []step) {
	t.Helper()
	slices.SortStableFunc(plan, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	began := time.Now()
	for _, s := range plan {
		<-time.After(s.at - time.Since(began))
		t.Logf("%s %5.1fs %s", clock(time.Now()), s.at.Seconds(), s.what)
		s.do()
	}
}

// between is a random time.
func between(r *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(r.Int64N(int64(most-least)))
}

// plan draws what happens to each process of a fleet, and when.
func (f *fleet) plan(r *rand.Rand, total time.Duration) (plan []step) {
	for _, m := range f.members() {
		for at := between(r, time.Second, 6*time.Second); at < total; at += between(r, 3*time.Second, 9*time.Second) {
			if !m.bridge && r.IntN(2) == 0 {
				pause := between(r, fleetTTL, 3*fleetTTL)
				plan = append(plan, step{at, "stop " + m.name, m.pause}, step{at + pause, "continue " + m.name, m.goOn})
				at += pause
				continue
			}
			down := between(r, 50*time.Millisecond, 3*fleetTTL)
			plan = append(plan, step{at, "kill " + m.name, m.kill}, step{at + down, "start " + m.name, m.start})
			at += down
		}
	}
	return plan
}

// serverPlan draws when a NATS server is killed, and for how long.
func serverPlan(t *testing.T, r *rand.Rand, server *testenv.NATSServer, total time.Duration) (plan []step) {
	t.Helper()
	for at := between(r, 2*time.Second, 6*time.Second); at < total; at += between(r, 4*time.Second, 10*time.Second) {
		down := between(r, 10*time.Millisecond, 2*time.Second)
		plan = append(plan,
			step{at, "kill the NATS server", func() { server.Kill(t) }},
			step{at + down, fmt.Sprintf("start the NATS server after %s", down), func() { server.Restart(t) }})
		at += down
	}
	return plan
}
