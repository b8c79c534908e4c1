//go:build unix

package e2e

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/fraiseql/observer/internal/testenv"
)

// chaos is for how long processes and servers are killed.
const chaos = 40 * time.Second

// TestFleetUnderChaos: two bridges over two databases and three workers, under
// load, while they are killed and stopped past their leases, the NATS server is
// killed, consumers are deleted, and the network to one of the databases is cut,
// and that to the state. Nothing is lost, the changes of an entity keep their
// order, what is repeated has the same key and a reason, and the reconciler finds
// nothing.
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
	database, state := through(t, &f.bases[0].url), through(t, &f.state)
	f.crew(2, 3)
	f.start()
	stop := f.load(r, 60, 80)
	f.run(slices.Concat(f.plan(r, chaos), serverPlan(t, r, server, chaos), f.consumerPlan(r, chaos),
		networkPlan(r, database, chaos), f.statePlan(r, state, chaos)))
	f.start()
	stop()
	f.arrived()
	f.stop()
	f.check()
	f.leftNothing()
	for _, b := range f.bridges {
		if strings.Contains(b.log(), lossLine) {
			t.Errorf("%s found a loss, and there was none", b.name)
		}
	}
	told := 0
	for _, w := range f.workers {
		told += strings.Count(w.log(), "the lease was lost: not renewed for ")
	}
	if told == 0 {
		t.Error("no worker says why it lost its leases")
	}
}

// networkPlan draws when the network to a database is cut, silently or not.
func networkPlan(r *rand.Rand, proxy *testenv.Proxy, total time.Duration) (plan []step) {
	for at := between(r, 3*time.Second, 9*time.Second); at < total; at += between(r, 6*time.Second, 12*time.Second) {
		cut, what := proxy.Mute, "cut the network to a database silently"
		if r.IntN(2) == 0 {
			cut, what = proxy.HangUp, "cut the network to a database"
		}
		away := between(r, 100*time.Millisecond, 3*time.Second)
		plan = append(plan, step{at, what, func() { cut(anyMessage) }}, step{at + away, "mend the network to the database", proxy.Pass})
		at += away
	}
	return plan
}

// statePlan draws when the connections to the state are cut.
func (f *fleet) statePlan(r *rand.Rand, proxy *testenv.Proxy, total time.Duration) (plan []step) {
	for at := between(r, 3*time.Second, 9*time.Second); at < total; at += between(r, 8*time.Second, 14*time.Second) {
		away := between(r, 100*time.Millisecond, 2*fleetTTL)
		plan = append(plan, step{at, "cut the state off", func() {
			f.away = append(f.away, fault{from: time.Now()})
			proxy.HangUp(anyMessage)
		}}, step{at + away, "mend the network to the state", func() {
			proxy.Pass()
			f.away[len(f.away)-1].until = time.Now()
		}})
		at += away
	}
	return plan
}

// consumerPlan draws when somebody deletes all consumers.
func (f *fleet) consumerPlan(r *rand.Rand, total time.Duration) (plan []step) {
	js := f.jetStream()
	for at := between(r, 2*time.Second, 8*time.Second); at < total; at += between(r, 5*time.Second, 12*time.Second) {
		plan = append(plan, step{at, "delete the consumers", func() {
			ctx, cancel := context.WithTimeout(f.t.Context(), time.Second)
			defer cancel()
			if stream, err := js.Stream(ctx, streamName); err == nil { // else the server is down
				_, _ = deleteConsumers(ctx, stream)
			}
		}})
	}
	return plan
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
func (f *fleet) run(plan []step) {
	f.t.Helper()
	slices.SortStableFunc(plan, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	began := time.Now()
	for _, s := range plan {
		<-time.After(s.at - time.Since(began))
		f.t.Logf("%s %5.1fs %s", clock(time.Now()), s.at.Seconds(), s.what)
		s.do()
		f.supervise()
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
			if r.IntN(2) == 0 {
				pause := between(r, fleetTTL, 3*fleetTTL)
				plan = append(plan, step{at, "stop " + m.name, m.pause}, step{at + pause, "continue " + m.name, m.goOn})
				at += pause
				continue
			}
			down := between(r, 50*time.Millisecond, 3*fleetTTL)
			plan = append(plan, step{at, "kill " + m.name, m.kill}, step{at + down, "start " + m.name, m.launch})
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

// TestFleetWhoseStreamLoses is the same with a stream that is put back, purged and
// deleted under load, while workers are killed. Nothing is lost. What is late or
// comes twice without a fault is no more than what was published again.
func TestFleetWhoseStreamLoses(t *testing.T) {
	t.Parallel()
	long(t)
	r := random(t)
	recv := newReceiver(t, func(receipt) int {
		<-time.After(35 * time.Millisecond) // the workers keep up just so, and something waits in the stream
		return http.StatusOK
	})
	server := testenv.PrivateNATS(t, testenv.NATSOptions{})
	f := newFleet(t, server.URL(), recv, "[performance]\nmax_concurrency = 2\n"+webhook("all", recv.url(), "", ""))
	f.databases(onPostgres, onSQLite)
	f.crew(2, 3)
	f.start()
	stop := f.load(r, 60, 80)
	const total = 25 * time.Second
	plan := slices.DeleteFunc(f.plan(r, total), func(s step) bool { return strings.Contains(s.what, "bridge") })
	f.run(slices.Concat(plan, f.lossPlan(r, server, total)))
	f.start()
	stop()
	f.arrived()
	slowly(t, "the losses are over", func() bool {
		for _, b := range f.bases {
			b.put(1)
		}
		for _, b := range f.bridges {
			if strings.Count(b.log(), lossLine) != strings.Count(b.log(), lossEnds) {
				return false
			}
		}
		return true
	})
	f.arrived()
	f.stop()
	again := f.reconciled()
	t.Logf("%d events were published again", again)
	if again == 0 {
		t.Error("nothing was published again, so the test shows nothing")
	}
	f.checkWith(again)
	f.leftNothing()
}

// What a bridge logs that found a loss, and when that is over.
const (
	lossLine = "the stream lost events that nobody handled"
	lossEnds = "what the stream lost is handled"
)

// lossPlan draws how and when a stream loses events.
func (f *fleet) lossPlan(r *rand.Rand, server *testenv.NATSServer, total time.Duration) (plan []step) {
	js := f.jetStream()
	for at := between(r, 2*time.Second, 4*time.Second); at < total; at += between(r, 4*time.Second, 6*time.Second) {
		switch r.IntN(3) {
		case 0:
			plan = append(plan, step{at, "purge the stream", func() {
				stream, err := js.Stream(f.t.Context(), streamName)
				if err == nil {
					err = stream.Purge(f.t.Context())
				}
				f.lose(server, err)
			}})
		case 1:
			plan = append(plan, step{at, "delete the stream", func() { f.lose(server, js.DeleteStream(f.t.Context(), streamName)) }})
		default:
			store := ""
			plan = append(plan, step{at, "copy the store", func() { store = server.CopyStore(f.t) }})
			at += between(r, 500*time.Millisecond, 2*time.Second)
			plan = append(plan, step{at, "put back the copy", func() { server.RestoreStore(f.t, store) }})
		}
	}
	return plan
}

// lose takes the error of an attempt to have the stream lose something. It may be
// gone since the last one: a bridge that waits for an answer notices it late. A
// server that purges a stream which was deleted shortly before may have lost its
// directory; then it needs a restart.
func (f *fleet) lose(server *testenv.NATSServer, err error) {
	f.t.Helper()
	const storeFailed = 10051
	refusal, refused := errors.AsType[*jetstream.APIError](err)
	switch {
	case err == nil || errors.Is(err, jetstream.ErrStreamNotFound):
	case refused && refusal.ErrorCode == storeFailed:
		f.t.Logf("the server is restarted: %v", err)
		server.Restart(f.t)
	default:
		f.t.Fatal(err)
	}
}
