//go:build unix

package e2e

import (
	"testing"
	"time"
)

// oracle compares what was committed with what one observer's receiver got.
type oracle struct {
	committed []change
	receipts  []receipt
}

// outstanding are the committed changes that were not accepted yet.
func (o oracle) outstanding() []change {
	got := map[change]bool{}
	for _, r := range o.receipts {
		if accepted(r) {
			got[r.change] = true
		}
	}
	var missing []change
	for _, c := range o.committed {
		if !got[c] {
			missing = append(missing, c)
		}
	}
	return missing
}

// check finds what no moment of stopping may cause: a loss, a change that was
// never committed, a key with two bodies, a change with two keys, a first
// attempt out of its entity's order.
func (o oracle) check(t *testing.T) {
	t.Helper()
	o.checkWith(t, 0)
}

// checkWith is check where so many first attempts may come late.
func (o oracle) checkWith(t *testing.T, most int) {
	t.Helper()
	report := reporter{t: t}
	for _, c := range o.outstanding() {
		report.add("lost: %+v", c)
	}
	place := map[change]int{}
	for i, c := range o.committed {
		place[c] = i
	}
	late := 0
	bodies, keys, newest := map[string]string{}, map[change]string{}, map[int64]int{}
	for _, r := range o.receipts {
		at, known := place[r.change]
		if !known {
			report.add("received, but never committed: %+v", r.change)
			continue
		}
		if body, again := bodies[r.key]; again && body != r.body {
			report.add("key %s has two bodies:\n%s\n%s", r.key, body, r.body)
		}
		if key, again := keys[r.change]; again && key != r.key {
			report.add("%+v has two keys: %s and %s", r.change, key, r.key)
		}
		bodies[r.key], keys[r.change] = r.body, r.key
		if r.attempt == 1 {
			if before, seen := newest[r.change.item]; seen && at < before {
				if late++; late <= most {
					continue
				}
				report.add("out of order: %+v came after %+v", r.change, o.committed[before])
			}
			newest[r.change.item] = at
		}
	}
	report.end()
}

// repetition is a delivery that was accepted and then sent again.
type repetition struct {
	key, event string
	// since is the first acceptance, again the request that repeats it.
	since, again time.Time
}

func (o oracle) repetitions() (list []repetition) {
	since := map[string]time.Time{}
	for _, r := range o.receipts {
		if first, done := since[r.key]; done {
			list = append(list, repetition{r.key, r.event, first, r.at})
		}
		if _, done := since[r.key]; !done && accepted(r) {
			since[r.key] = r.at
		}
	}
	return list
}

// reporter names the first few of many failures.
type reporter struct {
	t *testing.T
	n int
}

func (r *reporter) add(format string, args ...any) {
	r.t.Helper()
	if r.n++; r.n <= 5 {
		r.t.Errorf(format, args...)
	}
}

func (r *reporter) end() {
	r.t.Helper()
	if r.n > 5 {
		r.t.Errorf("and %d more", r.n-5)
	}
}
