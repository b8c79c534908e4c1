package cli

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

// letterStats is what dlq stats prints.
type letterStats struct {
	Dead         int                     `json:"dead"`
	OldestDeadAt *time.Time              `json:"oldest_dead_at"`
	ByReason     map[observer.Reason]int `json:"by_reason"`
	ByObserver   map[string]int          `json:"by_observer"`
	// ByError counts by an example of the errors that are the same but for
	// numbers, ids and quoted values; Errors has their fingerprints too. Both have
	// the most frequent ones.
	ByError map[string]int `json:"by_error"`
	Errors  []errorCount   `json:"errors"`
	// OtherErrors are how many different ones are left out that the store counts,
	// and DeadOfOtherErrors how many dead letters have none of those listed.
	OtherErrors       int `json:"other_errors"`
	DeadOfOtherErrors int `json:"dead_of_other_errors"`
}

// topErrors is how many errors are listed unless --top says.
const topErrors = 20

type errorCount struct {
	Fingerprint string `json:"fingerprint"`
	Count       int    `json:"count"`
	Example     string `json:"example"`
}

func (c *cli) dlqStats() *cobra.Command {
	var byObserver, byError bool
	var top int
	cmd := &cobra.Command{
		Use: "stats", Short: "Count dead letters",
		Long: "Count dead letters: by reason, and with the flags also by observer and by error.\n" +
			"JSON has all of it. Of the errors the most frequent are listed.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&byObserver, "by-observer", false, "count by observer")
	cmd.Flags().BoolVar(&byError, "by-error", false, "count by the last error, with the fingerprints that --error of other commands takes")
	cmd.Flags().IntVar(&top, "top", topErrors, "how many errors to list at most; 0 lists all that the state store counts")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if top < 0 {
			return usageError(errors.New("--top must be at least 0"))
		}
		s, err := c.readLetterStats(cmd, top)
		if err != nil {
			return err
		}
		return c.print(s, func(w io.Writer) {
			s.totals(w)
			writeCounts(w, "REASON", s.ByReason)
			if byObserver {
				writeCounts(w, "OBSERVER", s.ByObserver)
			}
			if byError {
				s.errors(w, c.width())
			}
		})
	})
	return cmd
}

func (c *cli) readLetterStats(cmd *cobra.Command, top int) (letterStats, error) {
	s := letterStats{ByReason: map[observer.Reason]int{}, ByObserver: map[string]int{}, ByError: map[string]int{}, Errors: []errorCount{}}
	err := c.reading(cmd.Context(), func(store observer.StateStore) error {
		stats, err := store.DeliveryStats(cmd.Context())
		if err != nil {
			return err
		}
		s.fill(stats, top)
		return nil
	})
	if errors.Is(err, errNoState) {
		return s, nil
	}
	return s, err
}

// fill takes over the top most frequent errors, and everything else.
func (s *letterStats) fill(stats observer.DeliveryStats, top int) {
	s.Dead, s.OldestDeadAt = stats.States[observer.Dead], when(stats.OldestDead)
	s.ByReason, s.ByObserver = stats.DeadByReason, stats.DeadByObserver
	for same, e := range stats.DeadByError {
		s.Errors = append(s.Errors, errorCount{Fingerprint: same, Count: e.Count, Example: e.Example})
	}
	slices.SortFunc(s.Errors, func(a, b errorCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Fingerprint, b.Fingerprint))
	})
	if top > 0 && len(s.Errors) > top {
		s.OtherErrors, s.Errors = len(s.Errors)-top, s.Errors[:top]
	}
	s.DeadOfOtherErrors = s.Dead
	for _, e := range s.Errors {
		s.ByError[e.Example] += e.Count
		s.DeadOfOtherErrors -= e.Count
	}
}

// errors prints the most frequent first, cut to width, the columns of the
// terminal; 0 when there is none.
func (s letterStats) errors(w io.Writer, width int) {
	if len(s.Errors) == 0 {
		return
	}
	rows := [][]string{{"FINGERPRINT", "COUNT", "ERROR"}}
	for _, e := range s.Errors {
		rows = append(rows, []string{cmp.Or(e.Fingerprint, "-"), strconv.Itoa(e.Count), printable(cause(e.Example))})
	}
	_, _ = fmt.Fprintln(w)
	writeRows(w, rows, width)
	if s.OtherErrors > 0 {
		_, _ = fmt.Fprintf(w, "and %d more, of %s: --top 0\n", s.OtherErrors, count(s.DeadOfOtherErrors, "dead letter"))
	}
}

func (s letterStats) totals(w io.Writer) {
	if s.Dead == 0 {
		_, _ = fmt.Fprintln(w, "no dead letters")
		return
	}
	_, _ = fmt.Fprintf(w, "%s, the oldest from %s\n", count(s.Dead, "dead letter"), moment(orZero(s.OldestDeadAt)))
}

// writeCounts prints the most frequent first.
func writeCounts[K ~string](w io.Writer, head string, counts map[K]int) {
	if len(counts) == 0 {
		return
	}
	keys := slices.SortedFunc(maps.Keys(counts), func(a, b K) int {
		return cmp.Or(cmp.Compare(counts[b], counts[a]), cmp.Compare(a, b))
	})
	_, _ = fmt.Fprintln(w)
	t := newTable(w, head, "COUNT")
	for _, k := range keys {
		t.row(short(orNone(string(k)), 100), strconv.Itoa(counts[k]))
	}
	t.end()
}
