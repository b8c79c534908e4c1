package postgres_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// stressChange is one row of the change log, as its writer and as its reader
// know it.
type stressChange struct {
	id      string // of the event
	entity  string
	version int64 // counted under the row lock of the entity
}

// stressLedger is what was committed, told by those who committed it.
type stressLedger struct {
	mu        sync.Mutex
	committed map[string]stressChange
}

// add must be called after the commit succeeded.
func (l *stressLedger) add(changes ...stressChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range changes {
		l.committed[c.id] = c
	}
}

// replace takes the word of somebody who knows better.
func (l *stressLedger) replace(committed map[string]stressChange) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committed = committed
}

func (l *stressLedger) all() map[string]stressChange {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.committed)
}

// stressSink is where a reader delivers. It may be used concurrently.
type stressSink struct {
	mu      sync.Mutex
	arrived []stressChange
	known   map[string]bool
	more    chan struct{} // closed, and made anew, when something arrives
}

func newStressSink() *stressSink {
	return &stressSink{known: map[string]bool{}, more: make(chan struct{})}
}

func (s *stressSink) deliver(c stressChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.arrived = append(s.arrived, c)
	s.known[c.id] = true
	close(s.more)
	s.more = make(chan struct{})
}

func (s *stressSink) all() []stressChange {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.arrived)
}

// missing counts which of the changes have not arrived, and returns a channel
// that is closed when something else does.
func (s *stressSink) missing(changes map[string]stressChange) (map[string]bool, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	missing := map[string]bool{}
	for id := range changes {
		if !s.known[id] {
			missing[id] = true
		}
	}
	return missing, s.more
}

// await waits until all changes have arrived, and returns those that did not
// within the time.
func (s *stressSink) await(ctx context.Context, changes map[string]stressChange, within time.Duration) map[string]bool {
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		missing, more := s.missing(changes)
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-more:
		case <-timer.C:
			return missing
		case <-ctx.Done():
			return missing
		}
	}
}

// stressVerdict says what is wrong with what a reader delivered.
type stressVerdict struct {
	committed int
	lost      []stressChange // committed, and never delivered
	inverted  []stressChange // delivered after a later change of its entity
	repeated  []stressChange // delivered again
	altered   []stressChange // delivered, and never committed like that
	stalled   []stressChange // delivered only when an unrelated transaction had ended
}

// judgeStress compares what was committed with what arrived. The changes in
// overdue had not arrived in their time.
func judgeStress(committed map[string]stressChange, arrived []stressChange, overdue map[string]bool) stressVerdict {
	v := stressVerdict{committed: len(committed)}
	seen := map[string]bool{}
	latest := map[string]int64{}
	for _, c := range arrived {
		switch want, known := committed[c.id]; {
		case !known || want != c:
			v.altered = append(v.altered, c)
		case seen[c.id]:
			v.repeated = append(v.repeated, c)
		case c.version < latest[c.entity]:
			v.inverted = append(v.inverted, c)
		default:
			latest[c.entity] = c.version
		}
		if overdue[c.id] && !seen[c.id] {
			v.stalled = append(v.stalled, c)
		}
		seen[c.id] = true
	}
	for id, c := range committed {
		if !seen[id] {
			v.lost = append(v.lost, c)
		}
	}
	return v
}

// flaws counts what is wrong, by name. A faultless reader has none.
func (v stressVerdict) flaws() map[string]int {
	counts := map[string]int{}
	for name, changes := range v.byName() {
		if len(changes) > 0 {
			counts[name] = len(changes)
		}
	}
	return counts
}

func (v stressVerdict) byName() map[string][]stressChange {
	return map[string][]stressChange{
		"lost": v.lost, "inverted": v.inverted, "repeated": v.repeated, "altered": v.altered, "stalled": v.stalled,
	}
}

// String shows the counts and the first of each kind.
func (v stressVerdict) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "of %d committed changes", v.committed)
	byName := v.byName()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		changes := byName[name]
		fmt.Fprintf(&b, "; %s %d", name, len(changes))
		for _, c := range changes[:min(3, len(changes))] {
			fmt.Fprintf(&b, " (entity %.8s version %d, event %.8s)", c.entity, c.version, c.id)
		}
	}
	return b.String()
}
