package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/delivery"
)

func (c *cli) endpointsCommand() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "endpoints",
		Short: "Look at receivers, pause them, resume them",
		Long: "An endpoint is a receiver: a server and the path on it, or a mail server. Nothing is\n" +
			"sent to a paused one, what is for it waits. One is paused because it answered that it\n" +
			"is gone (HTTP 410), because it failed for the time that [endpoints] disable_after\n" +
			"allows (it is tried now and then, and a success ends the pause), or by a person.",
	}, c.endpointsList(), c.endpointsPause(), c.endpointsResume())
}

// endpointView is what is known about a receiver.
type endpointView struct {
	Name string `json:"name"`
	// Pause is why nothing is sent there: gone, failing or person; "" when it is.
	Pause        observer.Pause `json:"pause"`
	PausedAt     *time.Time     `json:"paused_at"`
	FailingSince *time.Time     `json:"failing_since"`
	LastError    string         `json:"last_error"`
	// Waiting are unfinished deliveries for it.
	Waiting int `json:"waiting"`
}

// endpointPage is what endpoints list prints.
type endpointPage struct {
	Items []endpointView `json:"items"`
	// OtherEndpoints are how many are left out, and WaitingForOthers how many
	// unfinished deliveries are for them.
	OtherEndpoints   int `json:"other_endpoints"`
	WaitingForOthers int `json:"waiting_for_others"`
}

// topEndpoints is how many endpoints are listed unless --top says. A URL with a
// template in its host makes as many as there are hosts.
const topEndpoints = 20

// pageOf takes the first top of list; all of it with 0.
func pageOf(list []endpointView, top int) endpointPage {
	p := endpointPage{Items: list}
	if top > 0 && len(list) > top {
		p.Items, p.OtherEndpoints = list[:top], len(list)-top
		for _, e := range list[top:] {
			p.WaitingForOthers += e.Waiting
		}
	}
	return p
}

// viewEndpoints are the receivers that are known because they fail, are paused,
// or have something waiting for them; those that only have come last, and among
// equals those come first for which most waits.
func viewEndpoints(stored []observer.Endpoint, waiting map[string]int) []endpointView {
	list := []endpointView{}
	seen := map[string]bool{}
	for _, e := range stored {
		seen[e.Name] = true
		list = append(list, endpointView{
			Name: e.Name, Pause: e.Pause, PausedAt: when(e.PausedAt), FailingSince: when(e.FailingSince),
			LastError: e.LastError, Waiting: waiting[e.Name],
		})
	}
	for name, n := range waiting {
		if name != "" && !seen[name] {
			list = append(list, endpointView{Name: name, Waiting: n})
		}
	}
	slices.SortFunc(list, func(a, b endpointView) int {
		switch {
		case a.works() && !b.works():
			return 1
		case b.works() && !a.works():
			return -1
		}
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(a.Name, b.Name))
	})
	return list
}

// works: it neither fails nor is paused.
func (e endpointView) works() bool { return e.Pause == observer.NotPaused && e.FailingSince == nil }

func (c *cli) endpointsList() *cobra.Command {
	var top int
	cmd := &cobra.Command{
		Use: "list", Short: "List receivers that fail, are paused, or for which something waits", Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	cmd.Flags().IntVar(&top, "top", topEndpoints, "how many endpoints to list at most; 0 lists all")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if top < 0 {
			return usageError(errors.New("--top must be at least 0"))
		}
		list := []endpointView{}
		err := c.reading(cmd.Context(), func(store observer.StateStore) (err error) {
			list, err = readEndpoints(cmd.Context(), store)
			return err
		})
		if err != nil && !errors.Is(err, errNoState) {
			return err
		}
		p := pageOf(list, top)
		return c.print(p, func(w io.Writer) { p.text(w, c.width()) })
	})
	return cmd
}

func readEndpoints(ctx context.Context, store observer.StateStore) ([]endpointView, error) {
	stored, err := store.Endpoints(ctx)
	if err != nil {
		return nil, err
	}
	stats, err := store.DeliveryStats(ctx)
	if err != nil {
		return nil, err
	}
	return viewEndpoints(stored, stats.Waiting), nil
}

func (p endpointPage) text(w io.Writer, width int) {
	if len(p.Items) == 0 {
		_, _ = fmt.Fprintln(w, "no endpoint fails or is paused, and nothing waits for one")
		return
	}
	rows := [][]string{{"ENDPOINT", "STATE", "SINCE", "WAITING", "LAST ERROR"}}
	for _, e := range p.Items {
		state, since := e.state()
		rows = append(rows, []string{e.Name, state, since, strconv.Itoa(e.Waiting), printable(cause(e.LastError))})
	}
	writeRows(w, rows, width)
	if p.OtherEndpoints > 0 {
		_, _ = fmt.Fprintf(w, "and %d more, for which %s: --top 0\n", p.OtherEndpoints, waits(p.WaitingForOthers))
	}
}

// state says in words how a receiver is, and since when.
func (e endpointView) state() (words, since string) {
	switch {
	case e.Pause == observer.PausedByPerson:
		return "paused (by a person)", moment(orZero(e.PausedAt))
	case e.Pause != observer.NotPaused:
		return "paused (" + string(e.Pause) + ")", moment(orZero(e.PausedAt))
	case e.FailingSince != nil:
		return "failing", moment(*e.FailingSince)
	}
	return "ok", "-"
}

func (c *cli) endpointsPause() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pause NAME",
		Short: "Send nothing to a receiver until it is resumed",
		Long: "Send nothing to the receiver with this NAME, as endpoints list shows it, until it is\n" +
			"resumed. What is for it waits, and attempts that run are not stopped.",
		Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		return c.changeEndpoint(cmd.Context(), args[0], delivery.Pause)
	})
	return cmd
}

func (c *cli) endpointsResume() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "resume NAME",
		Short: "Send to a receiver again",
		Long: "End the pause of the receiver with this NAME, whatever its reason, and forget that it\n" +
			"failed: a circuit breaker that is open closes. What waits leaves slowly at first.",
		Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		return c.changeEndpoint(cmd.Context(), args[0], delivery.Resume)
	})
	return cmd
}

// changeEndpoint pauses or resumes a receiver and prints how it is then.
func (c *cli) changeEndpoint(ctx context.Context, name string,
	change func(context.Context, observer.DeliveryStore, string) error,
) error {
	view := endpointView{Name: name}
	err := c.withState(ctx, writeState, func(store observer.StateStore) error {
		if err := change(ctx, store, name); err != nil {
			return err
		}
		all, err := readEndpoints(ctx, store)
		for _, e := range all {
			if e.Name == name {
				view = e
			}
		}
		return err
	})
	switch {
	case errors.Is(err, observer.ErrNotFound):
		return &codedError{code: exitNotFound, err: fmt.Errorf("endpoint %q is not paused: list them with `%s endpoints list`", name, program)}
	case err != nil:
		return err
	}
	return c.print(view, func(w io.Writer) { _, _ = fmt.Fprintln(w, printable(view.line())) })
}

// line says how a receiver is, for a person who has just changed that.
func (e endpointView) line() string {
	state, _ := e.state()
	if e.Pause == observer.NotPaused {
		return fmt.Sprintf("%s is sent to again; %s", e.Name, e.waiting())
	}
	return fmt.Sprintf("%s is %s: nothing is sent to it; %s", e.Name, state, e.waiting())
}

func (e endpointView) waiting() string { return waits(e.Waiting) + " for it" }

func waits(n int) string {
	switch n {
	case 0:
		return "nothing waits"
	case 1:
		return "1 delivery waits"
	}
	return strconv.Itoa(n) + " deliveries wait"
}
