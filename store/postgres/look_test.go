package postgres

import (
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// manyEndpoints are the bands of a process that knows n endpoints.
func manyEndpoints(n int) *bands {
	b := newBands()
	for i := range n {
		b.add(bandKey{endpoint: strconv.Itoa(i)}, "", strconv.Itoa(i))
	}
	return b
}

// round goes through a look that takes n rows from each band that take names.
func round(b *bands, at time.Time, limit int, take map[string]int) (probes int, quotas int) {
	l := b.look(func() time.Time { return at }, nil, limit)
	defer b.done(l)
	for l.begin() {
		taken := 0
		for _, p := range l.probes {
			probes++
			quotas += p.turn.quota
			for range min(take[p.endpoint], p.turn.quota) {
				taken++
				p.take(dueTime(at), at)
			}
		}
		if limit > 0 {
			l.end(time.Now(), taken)
		} else {
			l.seen(time.Now())
		}
	}
	return probes, quotas
}

// A claim does not look into thousands of empty bands each time.
func TestEmptyBandsAreLeftOut(t *testing.T) {
	t.Parallel()
	const n = 2 * manyBands
	start := time.Unix(1000, 0)
	b := manyEndpoints(n)
	for i, step := range []struct {
		what   string
		after  time.Duration
		before func()
		want   int
	}{
		{"the first look", 0, func() {}, n},
		{"right after it", 0, func() {}, 0},
		{"this process stored into one", 0, func() { b.stored(bandKey{endpoint: "7"}, dueTime(start)) }, 1},
		{"it had nothing", 0, func() {}, 0},
		{"one comes later", 0, func() { b.all[bandKey{endpoint: "8"}].next = dueTime(start.Add(quietBand / 2)) }, 0},
		{"and has come", quietBand / 2, func() {}, 1},
		{"somebody else took it", quietBand / 2, func() {}, 0},
		{"others may have stored into any", quietBand, func() {}, n - 1},
		{"the rest", 2 * quietBand, func() {}, n},
	} {
		step.before()
		if got, _ := round(b, start.Add(step.after), 10, nil); got != step.want {
			t.Errorf("step %d, %s: got %d probes, want %d", i, step.what, got, step.want)
		}
	}
	few := manyEndpoints(manyBands)
	for range 2 {
		if got, _ := round(few, start, 10, nil); got != manyBands {
			t.Errorf("few bands: got %d probes, want all", got)
		}
	}
}

// What is asked for next knows what is to come in bands that have nothing yet.
func TestNextKnowsQuietBands(t *testing.T) {
	t.Parallel()
	const n = 2 * manyBands
	start := time.Unix(1000, 0)
	b := manyEndpoints(n)
	round(b, start, 10, nil)
	if got, _ := round(b, start, 0, nil); got != n {
		t.Errorf("the first: got %d probes, want all", got)
	}
	if got, _ := round(b, start, 0, nil); got != 0 {
		t.Errorf("right after it: got %d probes, want none", got)
	}
	b.all[bandKey{endpoint: "8"}].next = pgtype.Timestamptz{Valid: true, Time: start.Add(time.Hour)}
	if got, _ := round(b, start, 0, nil); got != 1 {
		t.Errorf("with one to come: got %d probes, want 1", got)
	}
}

// A claim locks no more than a few times what it takes, and still takes all it
// may when few of many bands have something.
func TestQuotasFollowWhatIsBusy(t *testing.T) {
	t.Parallel()
	start := time.Unix(1000, 0)
	all := map[string]int{}
	for i := range 100 {
		all[strconv.Itoa(i)] = 1000
	}
	b := manyEndpoints(100)
	for range 2 {
		if _, quotas := round(b, start, 200, all); quotas > 600 {
			t.Errorf("100 busy bands: asked for up to %d to take 200", quotas)
		}
	}
	one := map[string]int{"3": 1000}
	for i := range 3 { // the first finds out that the others are empty
		probes, _ := round(b, start, 200, one)
		if want := map[bool]int{true: 101, false: 100}[i == 0]; probes != want {
			t.Errorf("look %d with one busy band: got %d probes, want %d", i, probes, want)
		}
	}
}
