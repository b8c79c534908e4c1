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
	ByError      map[string]int          `json:"by_error"`
}

func (c *cli) dlqStats() *cobra.Command {
	var byObserver, byError bool
	cmd := &cobra.Command{
		Use: "stats", Short: "Count dead letters",
		Long: "Count dead letters: by reason, and with the flags also by observer and by error.\n" +
			"JSON has all of it.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().BoolVar(&byObserver, "by-observer", false, "count by observer")
	cmd.Flags().BoolVar(&byError, "by-error", false, "count by the text of the last error")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		s, err := c.readLetterStats(cmd)
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
				writeCounts(w, "ERROR", s.ByError)
			}
		})
	})
	return cmd
}

func (c *cli) readLetterStats(cmd *cobra.Command) (_ letterStats, err error) {
	none := letterStats{ByReason: map[observer.Reason]int{}, ByObserver: map[string]int{}, ByError: map[string]int{}}
	c.settings.optional = true
	cfg, err := c.settings.loadAll()
	if err != nil {
		return none, err
	}
	store, err := readState(cmd.Context(), cfg)
	if errors.Is(err, errNoState) {
		return none, nil
	}
	if err != nil {
		return none, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	stats, err := store.DeliveryStats(cmd.Context())
	if err != nil {
		return none, connectionError(err)
	}
	return letterStats{
		Dead: stats.Dead, OldestDeadAt: when(stats.OldestDead),
		ByReason: stats.DeadByReason, ByObserver: stats.DeadByObserver, ByError: stats.DeadByError,
	}, nil
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
