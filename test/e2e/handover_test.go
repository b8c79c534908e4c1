//go:build unix

package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/fraiseql/observer/internal/testenv"
)

// handover is for how long failovers of a fleet are measured. E2E_HANDOVER sets
// another time, such as 2m for fifty rounds.
func handover(t *testing.T) time.Duration {
	t.Helper()
	text := os.Getenv("E2E_HANDOVER")
	if text == "" {
		return 25 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("E2E_HANDOVER: %v", err)
	}
	return d
}

// newHandover is a fleet whose requests say when they came and from whom.
func newHandover(t *testing.T, bridges, workers int, kinds ...flavour) (f *fleet, stop func()) {
	t.Helper()
	recv := newReceiver(t, ok)
	f = newFleet(t, testenv.NATS(t), recv, webhook("all", recv.url(), "", ""))
	f.databases(kinds...)
	f.crew(bridges, workers)
	f.start()
	return f, f.load(rand.New(rand.NewPCG(1, 1)), handoverItems, 150)
}

// handoverItems are few enough that each changes several times while a lease runs out.
const handoverItems = 24

// TestFailoverOfPartitions kills one of three workers again and again, and measures
// how long it takes until what it read is read by others, and until the one that
// comes back reads its share.
func TestFailoverOfPartitions(t *testing.T) {
	t.Parallel()
	long(t)
	f, stop := newHandover(t, 1, 3, onSQLite)
	total := handover(t)
	var killed, joined []time.Duration
	for began, n := time.Now(), 0; time.Since(began) < total; n++ {
		f.eachWorks()
		victim := f.workers[n%len(f.workers)]
		at := time.Now()
		victim.kill()
		// What it had acknowledged is not asked for; what came since then is.
		f.each("every item arrives again", at, victim)
		killed = append(killed, time.Since(at))
		at = time.Now()
		victim.start()
		f.from(victim, at)
		joined = append(joined, time.Since(at))
	}
	stop()
	f.arrived()
	f.stop()
	f.check()
	wantTimes(t, fmt.Sprintf("partitions of a worker that was killed, ttl %s", fleetTTL), killed, fleetTTL+fleetTTL/5+2*time.Second)
	wantTimes(t, "a worker that joins", joined, 3*time.Second)
}

// TestFailoverOfBridges kills the bridge that publishes a database.
func TestFailoverOfBridges(t *testing.T) {
	t.Parallel()
	long(t)
	f, stop := newHandover(t, 2, 1, onPostgres)
	total := handover(t)
	var killed []time.Duration
	for began := time.Now(); time.Since(began) < total; {
		f.freshArrives()
		var victim *member
		eventually(t, "a bridge publishes", func() bool {
			reader := f.bridges[0].readers()[f.bases[0].name]
			i := slices.IndexFunc(f.bridges, func(m *member) bool {
				return m.daemon != nil && (&peer{site: m.site, cmd: m.daemon}).reads(reader)
			})
			if i >= 0 {
				victim = f.bridges[i]
			}
			return i >= 0
		})
		at := time.Now()
		victim.kill()
		f.freshArrives()
		killed = append(killed, time.Since(at))
		victim.start()
	}
	stop()
	f.arrived()
	f.stop()
	f.check()
	wantTimes(t, fmt.Sprintf("the database of a bridge that was killed, ttl %s", fleetTTL), killed, fleetTTL+fleetTTL/5+2*time.Second)
}

// each waits until every item that a worker delivered before comes from another
// process.
func (f *fleet) each(what string, since time.Time, victim *member) {
	f.t.Helper()
	want := map[int64]bool{}
	for _, r := range f.recv.receipts() {
		if r.run == victim.runs {
			want[r.change.item] = true
		} else {
			delete(want, r.change.item)
		}
	}
	var seen int
	eventually(f.t, what, func() bool {
		all := f.recv.receipts()
		for _, r := range all[seen:] {
			if r.at.After(since) && r.run != victim.runs {
				delete(want, r.change.item)
			}
		}
		seen = len(all)
		return len(want) == 0
	})
}

// from waits until a worker delivers.
func (f *fleet) from(m *member, since time.Time) {
	f.t.Helper()
	eventually(f.t, m.name+" delivers", func() bool {
		all := f.recv.receipts()
		return slices.ContainsFunc(all[max(0, len(all)-200):], func(r receipt) bool { return r.run == m.runs && r.at.After(since) })
	})
}

// eachWorks waits until every worker delivers.
func (f *fleet) eachWorks() {
	f.t.Helper()
	now := time.Now()
	for _, w := range f.workers {
		f.from(w, now)
	}
}

// freshArrives waits until a change arrives that is not committed yet.
func (f *fleet) freshArrives() {
	f.t.Helper()
	before := len(f.bases[0].all())
	eventually(f.t, "a change that was just committed arrives", func() bool {
		all := f.bases[0].all()[before:]
		receipts := f.recv.receipts()
		for _, r := range receipts[max(0, len(receipts)-200):] {
			if slices.Contains(all, r.change) {
				return true
			}
		}
		return false
	})
}
