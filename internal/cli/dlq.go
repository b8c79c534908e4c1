package cli

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

func (c *cli) dlqCommand() *cobra.Command {
	return c.group(&cobra.Command{
		Use:   "dlq",
		Short: "Look at dead letters, run them again, remove them",
		Long: "A dead letter is a delivery (one event for one action of one observer) that\n" +
			"failed for good. It stays in the state store, with its event, its request and its\n" +
			"attempts, until a person runs it again with success or removes it. The commands\n" +
			"work whether or not a daemon runs.",
	}, c.dlqList(), c.dlqShow(), c.dlqRetry(), c.dlqRetryAll(), c.dlqRemove(), c.dlqStats())
}

// selection is which dead letters a command is about.
type selection struct {
	observer string
	after    instant
}

func (s *selection) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&s.observer, "observer", "", "only those of this `OBSERVER`")
	cmd.Flags().Var(&s.after, "after", "only those stored since a `TIME` (2026-01-31T08:00:00Z) or in the last DURATION (90m)")
}

func (s *selection) filter() observer.DeliveryFilter {
	return observer.DeliveryFilter{State: observer.Dead, Observer: s.observer, Since: s.after.Time}
}

// instant is the value of --after.
type instant struct{ time.Time }

// String, Set and Type make it a flag.
func (i *instant) String() string {
	if i.IsZero() {
		return ""
	}
	return i.Format(time.RFC3339)
}

// Set takes a time or the length of the time up to now.
func (i *instant) Set(s string) error {
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		i.Time = t
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return errors.New("want a time such as 2026-01-31T08:00:00Z or a duration such as 90m")
	}
	i.Time = time.Now().Add(-d)
	return nil
}

// Type is the word for the value in the help text.
func (i *instant) Type() string { return "TIME" }

// letter is a stored delivery as JSON lists it.
type letter struct {
	Key          string             `json:"key"`
	State        observer.State     `json:"state"`
	Reason       observer.Reason    `json:"reason"`
	Error        string             `json:"error"`
	Observer     string             `json:"observer"`
	Action       int                `json:"action"`
	ActionType   string             `json:"action_type"`
	EventID      string             `json:"event_id"`
	EventType    observer.Operation `json:"event_type"`
	EntityType   string             `json:"entity_type"`
	EntityID     string             `json:"entity_id"`
	AttemptCount int                `json:"attempt_count"`
	CreatedAt    *time.Time         `json:"created_at"`
	UpdatedAt    *time.Time         `json:"updated_at"`
}

func viewLetter(d *observer.Delivery) letter {
	l := letter{
		Key: d.Key, State: d.State, Reason: d.Reason, Error: d.Error,
		Observer: d.Observer, Action: d.Action, ActionType: d.ActionType,
		AttemptCount: len(d.Attempts), CreatedAt: when(d.CreatedAt), UpdatedAt: when(d.UpdatedAt),
	}
	switch {
	case d.Event != nil:
		l.EventID, l.EventType = d.Event.ID, d.Event.Operation
		l.EntityType, l.EntityID = d.Event.EntityType, d.Event.EntityID
	case d.Malformed != nil:
		l.EventID, l.EntityType, l.EntityID = d.Malformed.ID, d.Malformed.EntityType, d.Malformed.EntityID
	}
	return l
}

// page is a part of the list of dead letters.
type page struct {
	Items  []letter `json:"items"`
	Limit  int      `json:"limit"`
	Offset int      `json:"offset"`
	// More: there are dead letters after these.
	More bool `json:"more"`
}

func (c *cli) dlqList() *cobra.Command {
	var chosen selection
	p := page{Items: []letter{}}
	cmd := &cobra.Command{Use: "list", Short: "List dead letters, oldest first", Args: arguments(0, 0)}
	c.settings.flags(cmd)
	chosen.flags(cmd)
	cmd.Flags().IntVar(&p.Limit, "limit", 50, "how many to list at most")
	cmd.Flags().IntVar(&p.Offset, "offset", 0, "how many to pass over first")
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		if p.Limit < 1 || p.Offset < 0 {
			return usageError(errors.New("--limit must be at least 1 and --offset at least 0"))
		}
		found, err := c.findLetters(cmd, chosen.filter(), &p)
		if err != nil {
			return err
		}
		return c.print(p, func(w io.Writer) { writePage(w, p, found, c.width()) })
	})
	return cmd
}

// findLetters fills p. It reports whether there is a state to look into.
func (c *cli) findLetters(cmd *cobra.Command, filter observer.DeliveryFilter, p *page) (state bool, err error) {
	c.settings.optional = true
	cfg, err := c.settings.loadAll()
	if err != nil {
		return false, err
	}
	store, err := readState(cmd.Context(), cfg)
	if errors.Is(err, errNoState) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	filter.Limit, filter.Offset = p.Limit+1, p.Offset
	list, err := store.Deliveries(cmd.Context(), filter)
	if err != nil {
		return true, connectionError(err)
	}
	if len(list) > p.Limit {
		list, p.More = list[:p.Limit], true
	}
	for _, d := range list {
		p.Items = append(p.Items, viewLetter(d))
	}
	return true, nil
}

// leastError is how much of an error a list shows, however narrow the terminal.
const leastError = 40

// writePage prints a list. Its lines are cut to width, the columns of the
// terminal; 0 when there is none.
func writePage(w io.Writer, p page, state bool, width int) {
	switch {
	case !state:
		_, _ = fmt.Fprintln(w, "no dead letters: no state yet")
		return
	case len(p.Items) == 0:
		_, _ = fmt.Fprintln(w, "no dead letters")
		return
	}
	rows := [][]string{{"STORED", "OBSERVER", "ACTION", "ENTITY", "REASON", "TRIES", "KEY", "ERROR"}}
	for _, l := range p.Items {
		rows = append(rows, []string{
			moment(orZero(l.CreatedAt)), orNone(l.Observer), actionName(l.Action, l.ActionType), entityName(l.EntityType, l.EntityID),
			string(l.Reason), strconv.Itoa(l.AttemptCount), l.Key, printable(cause(l.Error)),
		})
	}
	t := newTable(w)
	room := lastRoom(rows, width)
	for _, row := range rows {
		if last := len(row) - 1; width > 0 {
			row[last] = short(row[last], max(room, leastError))
		}
		t.row(row...)
	}
	t.end()
	if p.More {
		_, _ = fmt.Fprintf(w, "more: --offset %d\n", p.Offset+p.Limit)
	}
}

// cause leaves out of an error what the other columns and the configuration say:
// how many attempts there were, where the request went, what the condition is.
func cause(text string) string { return errorPrefix.ReplaceAllString(text, "") }

var errorPrefix = regexp.MustCompile("^(?:attempt \\d+ of \\d+ failed: )?(?:[A-Z]+ https?://\\S+: |evaluate condition `.*?`: )?")

func orZero(t *time.Time) time.Time {
	if t == nil {
		return time.Time{}
	}
	return *t
}

// noObserver stands for the observer of a log entry that is not an event.
const noObserver = "(none)"

func orNone(name string) string {
	if name == "" {
		return noObserver
	}
	return name
}

func actionName(index int, kind string) string {
	if kind == "" {
		return "-"
	}
	return strconv.Itoa(index) + " " + kind
}

func entityName(kind, id string) string {
	if kind == "" && id == "" {
		return "-"
	}
	return short(kind+" "+id, 40)
}
