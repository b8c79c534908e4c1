//go:build unix

package e2e

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/topology"
)

// fleet is an installation whose changes go through a stream: databases, bridges
// that publish what they record, and workers that take it from there. All of
// them share a state on PostgreSQL.
type fleet struct {
	t    *testing.T
	nats string // the URL of the server
	recv *receiver
	// stream are more keys of [transport.nats.jetstream], text the observers and
	// further tables.
	stream, text string

	state            string // its URL
	bases            []*base
	bridges, workers []*member
	faults           []fault
	away             []fault // when the state could not be reached
}

// base is a database of a fleet with the application that writes it.
type base struct {
	*shop

	name string
	// url is how the bridges reach it.
	url string
}

// member is a process of a fleet. Its runs have numbers that no other member has.
type member struct {
	*site

	name   string
	fleet  *fleet
	bridge bool
	paused time.Time // zero while it is not
	said   int       // the length of its log when it was launched
}

// fault is what was done to a process: it was killed, or stopped for a time.
type fault struct {
	run         int
	from, until time.Time
	killed      bool
}

// fleetTTL is how long a lease of a fleet runs.
const fleetTTL = time.Second

// versionsApart is the distance between the versions that two databases of a
// fleet write: an event says nothing of its database, and the items are the same.
const versionsApart = 100_000_000

// newFleet has an observer of all items, with more keys, and neither databases
// nor processes yet.
func newFleet(t *testing.T, nats string, recv *receiver, text string) *fleet {
	t.Helper()
	return &fleet{t: t, nats: nats, recv: recv, text: text, state: testenv.Database(t)}
}

// databases adds one database of each kind.
func (f *fleet) databases(kinds ...flavour) {
	f.t.Helper()
	for _, on := range kinds {
		s := &site{t: f.t, dir: f.t.TempDir(), on: on}
		if on == onPostgres {
			s.server = testenv.Database(f.t)
		}
		b := &base{name: fmt.Sprintf("%s-%d", on, len(f.bases)), shop: s.prepare()}
		b.url, b.versions = s.databaseURL(), int64(len(f.bases))*versionsApart
		f.bases = append(f.bases, b)
	}
}

// crew adds bridges and workers, and starts none.
func (f *fleet) crew(bridges, workers int) {
	f.t.Helper()
	for range bridges {
		f.bridges = append(f.bridges, f.member(fmt.Sprintf("bridge-%d", len(f.bridges)), true))
	}
	for range workers {
		f.workers = append(f.workers, f.member(fmt.Sprintf("worker-%d", len(f.workers)), false))
	}
}

// runsApart is the distance between the numbers of the runs of two members.
const runsApart = 1000

func (f *fleet) member(name string, bridge bool) *member {
	f.t.Helper()
	m := &member{
		name: name, fleet: f, bridge: bridge,
		site: &site{t: f.t, dir: f.t.TempDir(), on: onPostgres, server: f.state, runs: (len(f.members()) + 1) * runsApart},
	}
	m.write(m.configuration())
	m.tidy()
	return m
}

func (f *fleet) members() []*member { return slices.Concat(f.bridges, f.workers) }

// configuration is what the file of a member says.
func (m *member) configuration() string {
	var b strings.Builder
	if m.bridge {
		for _, one := range m.fleet.bases {
			fmt.Fprintf(&b, "[[databases]]\nname = %q\nurl = %q\npoll_interval = \"100ms\"\n", one.name, one.url)
		}
	}
	fmt.Fprintf(&b, `
[state]
url = %q
[network]
allow = ["127.0.0.0/8"]
[leases]
ttl = %q
[job_queue]
lease = "5s"
poll_interval_ms = 100
[transport]
transport = "nats"
run_bridge = %t
run_executors = %t
[transport.nats]
url = %q
partitions = 12
[transport.nats.jetstream]
%s
[transport.bridge]
reconcile_grace = "2s"
`, m.fleet.state, fleetTTL, m.bridge, !m.bridge, m.fleet.nats, m.fleet.stream)
	if !m.bridge {
		b.WriteString(m.fleet.text)
	}
	return b.String()
}

// start starts all members that do not run.
func (f *fleet) start() {
	f.t.Helper()
	for _, m := range f.members() {
		m.goOn()
		m.start()
	}
}

// start returns when the member says that it runs.
func (m *member) start() {
	m.t.Helper()
	m.launch()
	eventually(m.t, m.name+" runs", func() bool {
		m.launch()
		return strings.Contains(m.log()[m.said:], "msg=running")
	})
}

// launch starts the member where it does not run, also where it has ended because
// it could not connect, as whatever supervises it would.
func (m *member) launch() {
	m.t.Helper()
	if m.daemon != nil {
		if !isClosed(m.exited) {
			return
		}
		const cannotConnect = 3
		if code := m.daemon.ProcessState.ExitCode(); code != cannotConnect {
			m.t.Fatalf("%s ended with %d:\n%s", m.name, code, tail(m.log(), 20))
		}
	}
	m.said = len(m.log())
	m.site.launch()
}

// supervise launches the members that could not connect.
func (f *fleet) supervise() {
	f.t.Helper()
	for _, m := range f.members() {
		if m.daemon != nil {
			m.launch()
		}
	}
}

// stop ends all members, the bridges first.
func (f *fleet) stop() {
	f.t.Helper()
	for _, m := range f.members() {
		m.stop()
	}
}

// kill ends the process in the middle of whatever it does. It may be paused.
func (m *member) kill() {
	m.t.Helper()
	if m.daemon == nil {
		return
	}
	from, run := time.Now(), m.runs
	m.site.kill()
	m.paused = time.Time{}
	m.fleet.faults = append(m.fleet.faults, fault{run, from, time.Now(), true})
}

// pause has the process stand still, and goOn ends that.
func (m *member) pause() {
	m.t.Helper()
	if m.daemon == nil || isClosed(m.exited) {
		return
	}
	m.paused = time.Now()
	if err := m.daemon.Process.Signal(syscall.SIGSTOP); err != nil {
		m.t.Fatal(err)
	}
}

func (m *member) goOn() {
	m.t.Helper()
	if m.paused.IsZero() {
		return
	}
	if err := m.daemon.Process.Signal(syscall.SIGCONT); err != nil {
		m.t.Fatal(err)
	}
	m.fleet.faults = append(m.fleet.faults, fault{m.runs, m.paused, time.Now(), false})
	m.paused = time.Time{}
}

// load has every database written as [shop.load] does.
func (f *fleet) load(r *rand.Rand, items, perSecond int) (stop func()) {
	var stops []func()
	for _, b := range f.bases {
		stops = append(stops, b.load(r, items, perSecond))
	}
	return func() {
		for _, stop := range stops {
			stop()
		}
	}
}

// oracles are those of the databases, with what was received of each.
func (f *fleet) oracles() []oracle {
	all := f.recv.receipts()
	list := make([]oracle, len(f.bases))
	for i, b := range f.bases {
		list[i].committed = b.all()
		least := int64(i) * versionsApart
		for _, r := range all {
			if v := r.change.version; v > least && v <= least+versionsApart {
				list[i].receipts = append(list[i].receipts, r)
			}
		}
	}
	return list
}

// arrived waits until every change that was committed was accepted.
func (f *fleet) arrived() {
	f.t.Helper()
	for i := range f.bases {
		f.arrivedOf(i)
	}
}

// arrivedOf is arrived of one database.
func (f *fleet) arrivedOf(base int) {
	f.t.Helper()
	poll(f.t, 100*time.Millisecond, 2*patience, "everything of "+f.bases[base].name+" arrives", func() bool {
		return len(f.oracles()[base].outstanding()) == 0
	})
}

// behindOf counts the rows of the log of a database that its bridge has not
// published.
func (m *member) behindOf(b *base) (rows int64) {
	m.t.Helper()
	i := slices.Index(m.fleet.bases, b)
	m.store(func(store observer.StateStore) {
		cp, err := store.LoadCheckpoint(m.t.Context(), b.name)
		if err != nil && !errors.Is(err, observer.ErrNotFound) {
			m.t.Fatal(err)
		}
		source := topology.NewSource(m.loaded().Databases[i], nil, slog.New(slog.DiscardHandler))
		if rows, _, err = source.Backlog(m.t.Context(), cp.Position); err != nil {
			m.t.Fatal(err)
		}
	})
	return rows
}

// leftNothing checks that no delivery waits or is dead.
func (f *fleet) leftNothing() {
	f.t.Helper()
	if left := f.bridges[0].left(); len(left) > 0 {
		f.t.Errorf("%d deliveries are left, the first: %+v", len(left), left[0])
	}
}
