package demo

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// change is one change of an order as the writer knows it. INSERT and UPDATE
// give the order a version that was never used before, also not by a
// transaction that was rolled back; DELETE ends the version it had.
type change struct {
	order   int64
	version int64
	op      observer.Operation
	// shipped says that the order became shipped by it.
	shipped bool
}

// observers are those that the configuration gives this change to. It is
// decided here a second time, from the writer's side: an oracle that asked the
// daemon would agree with whatever it does.
func (c change) observers() []string {
	switch {
	case c.op == observer.Insert:
		return []string{everyChange, created}
	case c.op == observer.Delete:
		return []string{everyChange, cancelled}
	case c.shipped:
		return []string{everyChange, shipped}
	}
	return []string{everyChange}
}

// duty is one delivery that a committed change makes due.
type duty struct {
	observer string
	op       observer.Operation
	version  int64
}

func (d duty) String() string {
	return fmt.Sprintf("%s: %s of version %d", d.observer, d.op, d.version)
}

// entry is what is known of a duty.
type entry struct {
	change change
	// committedAt is read just before COMMIT is sent: the change cannot become
	// visible earlier, so latencies include the commit and are never negative.
	committedAt time.Time
	attempts    int
	accepted    int
	latency     time.Duration // to the first accepted attempt
	// first is the first accepted attempt, repeats are those after it.
	first   acceptance
	repeats []acceptance
}

// ledger holds what was committed against what was received. It is safe for
// concurrent use.
type ledger struct {
	mu           sync.Mutex
	duties       map[duty]*entry
	transactions int
	rolledBack   int
	changes      int
	accepted     int // duties accepted at least once
	unexpected   []string
	// latest is the version of each order in the last change that was accepted of
	// it, and disorder what came after a later one.
	latest   map[int64]int64
	disorder []string
	outage   *outage // nil unless there are several workers
}

func newLedger() *ledger { return &ledger{duties: map[duty]*entry{}, latest: map[int64]int64{}} }

// committing enters changes whose COMMIT is about to be sent.
func (l *ledger) committing(changes []change) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	l.transactions++
	l.changes += len(changes)
	for _, c := range changes {
		for _, name := range c.observers() {
			l.duties[duty{name, c.op, c.version}] = &entry{change: c, committedAt: now}
		}
	}
}

// rolledBackOne counts a transaction whose changes must never be seen.
func (l *ledger) rolledBackOne() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rolledBack++
}

// receipt is one request as the receiver saw it.
type receipt struct {
	duty    duty
	change  change
	key     string
	at      time.Time
	attempt int
	latency time.Duration
	status  int
}

// receive enters a request and completes it with what the ledger knows: the
// change, the number of the attempt and the latency. answer decides the status
// from the number of the attempt.
func (l *ledger) receive(r receipt, answer func(attempt int) int) receipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.duties[r.duty]
	if e == nil {
		l.unexpected = append(l.unexpected, r.duty.String())
		r.status = answer(1)
		return r
	}
	e.attempts++
	r.change, r.attempt, r.latency = e.change, e.attempts, r.at.Sub(e.committedAt)
	if r.status = answer(e.attempts); r.status >= 300 {
		return r
	}
	if e.accepted++; e.accepted > 1 {
		e.repeats = append(e.repeats, acceptance{r.at, r.key})
		return r
	}
	e.latency, e.first = r.latency, acceptance{r.at, r.key}
	l.accepted++
	l.checkOrder(r.duty, e.change.order)
	return r
}

// unaccepted counts the duties that no receiver accepted so far.
func (l *ledger) unaccepted() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.duties) - l.accepted
}

// progress is one look at the ledger while it fills.
type progress struct{ changes, expected, accepted int }

func (l *ledger) progress() progress {
	l.mu.Lock()
	defer l.mu.Unlock()
	return progress{changes: l.changes, expected: len(l.duties), accepted: l.accepted}
}

// summary is the outcome of the demo.
type summary struct {
	transactions, rolledBack, changes int

	expected  int // deliveries
	delivered int // accepted at least once
	retried   int // needed more than one attempt
	repeated  int // accepted again after they had been accepted
	waiting   int // scheduled for later when the demo ended
	dead      map[observer.Reason]int
	lost      []string // expected, and neither accepted, dead nor scheduled
	// unexpected are requests for what was never committed.
	unexpected []string
	p50, p99   time.Duration
	// workers is what is said when there are several, else nil.
	workers *workersSummary
}

func (l *ledger) summary(stored map[duty]*observer.Delivery) summary {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := summary{
		transactions: l.transactions, rolledBack: l.rolledBack, changes: l.changes,
		expected: len(l.duties), dead: map[observer.Reason]int{}, unexpected: l.unexpected,
	}
	var latencies []time.Duration
	for name, e := range l.duties {
		if e.attempts > 1 {
			s.retried++
		}
		if e.accepted > 0 {
			s.delivered++
			s.repeated += e.accepted - 1
			latencies = append(latencies, e.latency)
			continue
		}
		switch d := stored[name]; {
		case d == nil:
			s.lost = append(s.lost, fmt.Sprintf("%s (order %d)", name, e.change.order))
		case d.State == observer.Dead:
			s.dead[d.Reason]++
		default:
			s.waiting++
		}
	}
	slices.Sort(s.lost)
	slices.Sort(latencies)
	s.p50, s.p99 = quantile(latencies, 0.50), quantile(latencies, 0.99)
	if l.outage != nil {
		s.workers = l.judge()
	}
	return s
}

// verdict is an error when something is wrong.
func (s summary) verdict() error {
	if n := len(s.lost); n > 0 {
		return fmt.Errorf("%w: %d of %d, the first is %s", ErrLost, n, s.expected, s.lost[0])
	}
	if w := s.workers; w != nil && len(w.unexplained)+len(w.disorder) > 0 {
		return fmt.Errorf("%w: %d, and %d out of order", ErrUnexplained, len(w.unexplained), len(w.disorder))
	}
	return nil
}

func quantile(sorted []time.Duration, q float64) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[int(q*float64(len(sorted)-1))]
}
