package postgres

import (
	"strings"
	"testing"
)

func TestCompareHistories(t *testing.T) {
	t.Parallel()
	read := func() place {
		return place{
			epoch: "here",
			gaps:  gaps{high: 90, holes: []hole{{30, 35, &owners{}}, {70, 71, &owners{}}}},
			trail: []mark{{90, "c"}, {60, "b"}, {10, "a"}},
		}
	}
	all := map[int64]string{90: "c", 60: "b", 10: "a"}
	tests := map[string]struct {
		found   map[int64]string
		history string
		high    int64
		holes   int
		why     string
	}{
		"the same":                     {all, "here", 90, 2, ""},
		"the newest row was pruned":    {map[int64]string{60: "b", 10: "a"}, "here", 90, 2, ""},
		"everything was pruned":        {nil, "here", 90, 2, ""},
		"the newest key has a new row": {map[int64]string{90: "x", 60: "b", 10: "a"}, "here", 60, 1, "after key 60"},
		"all keys have new rows":       {map[int64]string{90: "x", 60: "y", 10: "z"}, "here", 0, 0, "beginning at the start"},
		"promoted, nothing lost":       {all, "there", 90, 2, ""},
		"promoted, the newest is lost": {map[int64]string{60: "b", 10: "a"}, "there", 60, 1, "after key 60"},
		"promoted, keys used again":    {map[int64]string{90: "x", 60: "y", 10: "a"}, "there", 10, 0, "after key 10"},
		"another database":             {nil, "there", 0, 0, "beginning at the start"},
		"agrees again further down":    {map[int64]string{90: "x", 10: "a"}, "here", 10, 0, "after key 10"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := read()
			why := p.compare(tt.found, tt.history)
			if p.gaps.high != tt.high || len(p.gaps.holes) != tt.holes {
				t.Errorf("goes on after key %d with %d holes, want %d and %d", p.gaps.high, len(p.gaps.holes), tt.high, tt.holes)
			}
			if (why == "") != (tt.why == "") || !strings.Contains(why, tt.why) {
				t.Errorf("says %q, want %q", why, tt.why)
			}
		})
	}
}

func TestCutEndsAHole(t *testing.T) {
	t.Parallel()
	g := gaps{high: 90, holes: []hole{{30, 35, &owners{}}, {50, 80, &owners{}}}}
	g.cut(60)
	if n := len(g.holes); g.high != 60 || n != 2 || g.holes[1].hi != 60 {
		t.Errorf("up to %d with holes %v", g.high, g.holes)
	}
}
