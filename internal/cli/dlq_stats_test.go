package cli_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/fraiseql/observer"
)

// errors stores 50 dead letters with 25 different errors, one of which 26 have.
func (p *project) errors() {
	p.t.Helper()
	words := "abcdefghijklmnopqrstuvwxy"
	for i := range 2 * len(words) {
		p.keep(fmt.Sprintf("00000000-0000-4000-8000-0000000000%02d", i), func(d *observer.Delivery) {
			d.Error = "refused by " + strings.Repeat(words[i%len(words):i%len(words)+1], 3)
			if i >= len(words) {
				d.Error = "refused by aaa" // the most frequent of all
			}
		})
	}
}

// A store may have as many different errors as it has dead letters: what is
// printed does not grow with them.
func TestStatsListTheMostFrequentErrors(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.errors()
	lines := func(out string) int { return strings.Count(out, "refused by ") }
	out := p.must("dlq", "stats", "--by-error")
	if lines(out) != 20 || !strings.Contains(out, "  26     refused by aaa\n") || !strings.HasSuffix(out, "\nand 5 more, of 5 dead letters: --top 0\n") {
		t.Errorf("printed\n%s", out)
	}
	if out := p.must("dlq", "stats", "--by-error", "--top", "0"); lines(out) != 25 || strings.Contains(out, "more") {
		t.Errorf("with --top 0 it printed\n%s", out)
	}
	if r := p.run("dlq", "stats", "--top", "-1"); r.code != 2 || !strings.Contains(r.stderr, "--top must be at least 0") {
		t.Errorf("--top -1 ended with code %d: %s", r.code, r.stderr)
	}
	if out := p.must("status", "--detailed") + p.must("status", "--detailed", "--format", "json"); lines(out) != 0 {
		t.Errorf("status lists errors:\n%s", out)
	}
}

func TestStatsInJSONListTheMostFrequentErrors(t *testing.T) {
	t.Parallel()
	p := newProject(t)
	p.errors()
	var got struct {
		Dead        int
		Errors      []struct{ Count int }
		ByError     map[string]int `json:"by_error"`
		OtherErrors int            `json:"other_errors"`
		DeadOf      int            `json:"dead_of_other_errors"`
	}
	check(t, json.Unmarshal([]byte(p.must("dlq", "stats", "--format", "json", "--top", "3")), &got))
	if got.Dead != 50 || len(got.Errors) != 3 || len(got.ByError) != 3 || got.Errors[0].Count != 26 || got.OtherErrors != 22 || got.DeadOf != 22 {
		t.Errorf("JSON has %+v", got)
	}
}
