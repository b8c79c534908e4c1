package demo

import (
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/fraiseql/observer/transport/nats"
)

// acceptance is one call that was accepted.
type acceptance struct {
	at  time.Time
	key string
}

// outage is what the death of a worker may explain; worker is 0 when none died.
type outage struct {
	worker     int
	at         time.Time
	partitions []int // those that it read
}

// onTheWay is how long a call of a process that is gone may still arrive.
const onTheWay = time.Second

// explains reports whether a delivery was made again because of the death: its
// partition was read by the killed worker, which had made it before, and the key
// tells the receiver so.
func (o outage) explains(order int64, first, again acceptance) bool {
	return o.worker != 0 && again.key == first.key &&
		first.at.Before(o.at.Add(onTheWay)) && again.at.After(o.at) &&
		slices.Contains(o.partitions, nats.Partition("Order", strconv.FormatInt(order, 10), partitions))
}

// workersSummary is what a summary says of several workers.
type workersSummary struct {
	outage      outage
	unexplained []string // repeated, and not because a worker was killed
	disorder    []string // accepted after a later change of the same order
}

// explain gives the ledger the reason why deliveries may have been repeated.
func (l *ledger) explain(o outage) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outage = &o
}

// judge is called with the lock held.
func (l *ledger) judge() *workersSummary {
	w := &workersSummary{outage: *l.outage, disorder: l.disorder}
	for what, e := range l.duties {
		for _, again := range e.repeats {
			if !l.outage.explains(e.change.order, e.first, again) {
				w.unexplained = append(w.unexplained, fmt.Sprintf("%s (order %d), %s after it was accepted, as %s and %s",
					what, e.change.order, again.at.Sub(e.first.at).Round(time.Millisecond), e.first.key, again.key))
			}
		}
	}
	slices.Sort(w.unexplained)
	return w
}

// checkOrder notes a change that is accepted after a later one of its order. Only
// the receiver that gets every change, and refuses none, sees them in order. It is
// called with the lock held.
func (l *ledger) checkOrder(what duty, order int64) {
	if what.observer != everyChange {
		return
	}
	if what.version < l.latest[order] {
		l.disorder = append(l.disorder, fmt.Sprintf("%s (order %d) after version %d", what, order, l.latest[order]))
	}
	l.latest[order] = max(l.latest[order], what.version)
}
