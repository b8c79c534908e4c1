package postgres

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

// server is a model of PostgreSQL: a sequence, transactions that draw keys from
// it, and what is visible.
type server struct {
	last    int64
	visible map[int64]bool
	running []*transaction
	next    int // number of the next transaction
}

type transaction struct {
	holder string // "" before it drew a key
	number int
	drawn  []int64
	rows   []int64 // of drawn
}

func (s *server) holders() map[string]struct{} {
	list := map[string]struct{}{}
	for _, tx := range s.running {
		if tx.holder != "" {
			list[tx.holder] = struct{}{}
		}
	}
	return list
}

// step does one thing that sessions do.
func (s *server) step(t *rapid.T) {
	if len(s.running) == 0 || rapid.IntRange(0, 9).Draw(t, "begin") == 0 {
		s.next++
		s.running = append(s.running, &transaction{number: s.next})
	}
	i := rapid.IntRange(0, len(s.running)-1).Draw(t, "transaction")
	tx := s.running[i]
	switch rapid.SampledFrom([]string{"draw", "draw", "write", "write", "commit", "commit", "roll back", "prepare"}).Draw(t, "step") {
	case "draw":
		if !prepared(tx.holder) {
			s.last++
			tx.drawn = append(tx.drawn, s.last)
			tx.holder = fmt.Sprintf("3/%d", tx.number)
		}
	case "write": // any of the keys drawn and not written yet
		if n := len(tx.drawn); n > 0 && !prepared(tx.holder) {
			k := rapid.IntRange(0, n-1).Draw(t, "key")
			tx.rows = append(tx.rows, tx.drawn[k])
			tx.drawn = slices.Delete(tx.drawn, k, k+1)
		}
	case "prepare":
		if tx.holder != "" && !prepared(tx.holder) {
			tx.holder = fmt.Sprintf("-1/%d", tx.number)
		}
	case "commit":
		for _, pk := range tx.rows {
			s.visible[pk] = true
		}
		s.running = slices.Delete(s.running, i, i+1)
	case "roll back":
		s.running = slices.Delete(s.running, i, i+1)
	}
}

// reader does with gaps what a stream does, and can be broken on purpose.
type reader struct {
	place   place
	holders map[string]struct{}
	got     []int64

	noNewerSnapshot, noPrepared bool
}

// poll reads one snapshot; between it and the listing of holders other sessions
// go on.
func (r *reader) poll(s *server, limit int, between func()) {
	dead := r.place.gaps.gone()
	upTo := int64(math.MaxInt64)
	keys := r.matching(s)
	if len(keys) >= limit {
		keys = keys[:limit]
		upTo = keys[limit-1]
	}
	between()
	fresh := &owners{}
	for _, pk := range keys {
		if r.place.gaps.see(pk, fresh) {
			r.got = append(r.got, pk)
		}
	}
	r.place.gaps.bury(dead, upTo)
	now := s.holders()
	if r.noPrepared {
		maps.DeleteFunc(now, func(h string, _ struct{}) bool { return prepared(h) })
	}
	r.place.gaps.list(now, r.holders)
	r.holders = now
	if r.noNewerSnapshot {
		r.place.gaps.bury(r.place.gaps.gone(), upTo)
	}
	if len(r.place.gaps.holes) == 0 {
		r.holders = nil
	}
}

// matching is what the query finds.
func (r *reader) matching(s *server) []int64 {
	var keys []int64
	for pk := range s.visible {
		if _, in := r.place.gaps.find(pk); in || pk > r.place.gaps.high {
			keys = append(keys, pk)
		}
	}
	slices.Sort(keys)
	return keys
}

// restart goes through the text of the position.
func (r *reader) restart() error {
	p, err := parsePosition(r.place.position())
	r.place, r.holders = p, nil
	return err
}

// check reads a random history with random restarts and says what was lost or
// came twice.
func (r *reader) check(t *rapid.T) string {
	s := &server{visible: map[int64]bool{}}
	for range rapid.IntRange(1, 150).Draw(t, "steps") {
		switch rapid.SampledFrom([]string{"step", "step", "step", "poll", "restart"}).Draw(t, "what") {
		case "step":
			s.step(t)
		case "poll":
			r.poll(s, rapid.IntRange(1, 5).Draw(t, "limit"), func() {
				for range rapid.IntRange(0, 3).Draw(t, "between") {
					s.step(t)
				}
			})
		case "restart":
			if err := r.restart(); err != nil {
				return err.Error()
			}
		}
	}
	s.running = nil
	for range 2*len(s.visible) + 3 {
		r.poll(s, 5, func() {})
	}
	got := slices.Sorted(slices.Values(r.got))
	if d := cmp.Diff(slices.Sorted(maps.Keys(s.visible)), got); d != "" {
		return "rows (-committed +read):\n" + d
	}
	if len(r.place.gaps.holes) > 0 {
		return fmt.Sprintf("holes are left when nobody runs: %v", r.place.gaps.holes)
	}
	return ""
}

// Every committed row comes once, and no hole outlives its owners, whatever
// sessions do and when the reader starts again.
func TestHolesAgainstModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		if problem := (&reader{}).check(t); problem != "" {
			t.Fatal(problem)
		}
	})
}

// The model finds readers that take a shorter proof.
func TestHolesModelFindsWrongReaders(t *testing.T) {
	t.Parallel()
	wrong := map[string]func() *reader{
		"no newer snapshot":     func() *reader { return &reader{noNewerSnapshot: true} },
		"prepared transactions": func() *reader { return &reader{noPrepared: true} },
	}
	for name, newReader := range wrong {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := false
			for seed := 0; seed < 2000 && !found; seed++ {
				problem := rapid.Custom(func(t *rapid.T) string { return newReader().check(t) }).Example(seed)
				found = problem != ""
			}
			if !found {
				t.Error("a wrong reader passed")
			}
		})
	}
}

func TestPositionKeepsThePlace(t *testing.T) {
	t.Parallel()
	unborn, somebody := &owners{undrawn: true}, &owners{}
	p := place{
		epoch: "7.00000001.5.16400",
		gaps:  gaps{high: 90, holes: []hole{{1, 1, somebody}, {3, 40, somebody}, {42, 42, unborn}, {50, 80, unborn}}},
		trail: []mark{{90, "abc"}, {88, ""}, {41, "zz"}},
	}
	got, err := parsePosition(p.position())
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(shown(p), shown(got)); d != "" {
		t.Error(d)
	}
	// A row of the same batch with a lower key shares the text.
	got, err = parsePosition(at(p.epoch, 41) + p.shared())
	if err != nil {
		t.Fatal(err)
	}
	want := place{epoch: p.epoch, gaps: gaps{high: 41, holes: p.gaps.holes[:2]}, trail: p.trail[2:]}
	if d := cmp.Diff(shown(want), shown(got)); d != "" {
		t.Error(d)
	}
}

// shown is a place without what a position does not hold.
func shown(p place) string {
	var text strings.Builder
	fmt.Fprintf(&text, "%s up to %d, trail %v", p.epoch, p.gaps.high, p.trail)
	for _, h := range p.gaps.holes {
		fmt.Fprintf(&text, ", hole %d-%d undrawn %t", h.lo, h.hi, h.owners.undrawn)
	}
	return text.String()
}

// The trail reaches far back with few marks, and its newest marks are dense.
func TestTrailReachesBack(t *testing.T) {
	t.Parallel()
	var trail []mark
	const rows = 5_000_000
	for pk := int64(500); pk <= rows; pk += 500 {
		trail = leave(trail, mark{pk: pk})
	}
	if len(trail) > trailLength || trail[0].pk != rows || trail[1].pk != rows-500 {
		t.Fatalf("trail %v", trail)
	}
	for i, m := range trail[1:] {
		back := rows - trail[i].pk
		if step := trail[i].pk - m.pk; step > max(2*back, 1000) {
			t.Errorf("a step of %d at %d back", step, back)
		}
	}
	if oldest := trail[len(trail)-1].pk; oldest > rows/2 {
		t.Errorf("the trail ends at %d of %d", oldest, rows)
	}
}

func FuzzPosition(f *testing.F) {
	p := place{epoch: "1.2.3.4", gaps: gaps{high: 9, holes: []hole{{2, 3, &owners{}}}}, trail: []mark{{9, "x"}}}
	f.Add(string(p.position()))
	f.Add("2|e|zz|1+1 2!|9.a 1.b")
	f.Add("2|||-1|")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := parse(text)
		if err != nil {
			return
		}
		before := int64(math.MinInt64)
		for _, h := range p.gaps.holes {
			if h.lo <= before || h.hi < h.lo || h.hi >= p.gaps.high {
				t.Fatalf("holes of %q: %v", text, p.gaps.holes)
			}
			before = h.hi
		}
		again, err := parse(string(p.position()))
		if err != nil {
			t.Fatalf("%q became %q: %v", text, p.position(), err)
		}
		if d := cmp.Diff(shown(p), shown(again)); d != "" {
			t.Error(d)
		}
	})
}
