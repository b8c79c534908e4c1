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
		Short: "Look at dead letters, edit them, run them again, remove them",
		Long: "A dead letter is a delivery (one event for one action of one observer) that\n" +
			"failed for good. It stays in the state store, with its event, its request and its\n" +
			"attempts, until a person runs it again with success or removes it, or until\n" +
			"[dead_letters] retention has passed. The commands work whether or not a daemon runs.",
	}, c.dlqList(), c.dlqShow(), c.dlqEdit(), c.dlqRetry(), c.dlqRetryAll(), c.dlqRemove(), c.dlqStats(), c.dlqExport(), c.dlqImport())
}

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
	Endpoint     string             `json:"endpoint"`
	Fingerprint  string             `json:"fingerprint"`
	AttemptCount int                `json:"attempt_count"`
	// RunAt is from when on a worker takes it; null when none does.
	RunAt     *time.Time `json:"run_at"`
	CreatedAt *time.Time `json:"created_at"`
	UpdatedAt *time.Time `json:"updated_at"`
}

func viewLetter(d *observer.Delivery) letter {
	l := letter{
		Key: d.Key, State: d.State, Reason: d.Reason, Error: d.Error,
		Observer: d.Observer, Action: d.Action, ActionType: d.ActionType, Endpoint: d.Endpoint, Fingerprint: observer.Fingerprint(d.Error),
		AttemptCount: len(d.Attempts), RunAt: when(d.RunAt), CreatedAt: when(d.CreatedAt), UpdatedAt: when(d.UpdatedAt),
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

// page is a part of a list of stored deliveries, dead ones unless told.
type page struct {
	Items  []letter `json:"items"`
	Limit  int      `json:"limit"`
	Offset int      `json:"offset"`
	// More: there are others after these.
	More bool `json:"more"`

	state state // which were asked for
}

func (c *cli) dlqList() *cobra.Command {
	var chosen selection
	p := page{Items: []letter{}, state: state(observer.Dead)}
	cmd := &cobra.Command{
		Use: "list", Short: "List dead letters, oldest first",
		Long: "List dead letters, oldest first, or with --state what else is stored: deliveries that\n" +
			"are not finished, and those that are until [job_queue] retention has passed.",
		Args: arguments(0, 0),
	}
	c.settings.flags(cmd)
	chosen.flags(cmd, 50)
	p.state.flag(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, _ []string) error {
		filter, err := chosen.dead()
		if err != nil {
			return err
		}
		if filter.Limit < 1 {
			return usageError(errors.New("--limit must be at least 1"))
		}
		filter.State = p.state.filter()
		p.Limit, p.Offset = filter.Limit, filter.Offset
		found, err := c.findLetters(cmd, filter, &p)
		if err != nil {
			return err
		}
		return c.print(p, func(w io.Writer) { writePage(w, p, found, c.width()) })
	})
	return cmd
}

// findLetters fills p. It reports whether there is a state to look into.
func (c *cli) findLetters(cmd *cobra.Command, filter observer.DeliveryFilter, p *page) (known bool, err error) {
	var list []*observer.Delivery
	err = c.reading(cmd.Context(), func(store observer.StateStore) (err error) {
		filter.Limit++ // to know whether there are more
		list, err = store.Deliveries(cmd.Context(), filter)
		return err
	})
	if errors.Is(err, errNoState) {
		return false, nil
	}
	if err != nil {
		return true, err
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
func writePage(w io.Writer, p page, known bool, width int) {
	switch {
	case !known:
		_, _ = fmt.Fprintf(w, "%s: no state yet\n", p.state.none())
		return
	case len(p.Items) == 0:
		_, _ = fmt.Fprintln(w, p.state.none())
		return
	}
	if p.state.filter() == observer.Dead {
		writeRows(w, p.deadRows(), width)
	} else {
		writeRows(w, p.rows(), width)
	}
	if p.More {
		_, _ = fmt.Fprintf(w, "more: --offset %d\n", p.Offset+p.Limit)
	}
}

func (p page) deadRows() [][]string {
	rows := [][]string{{"STORED", "OBSERVER", "ACTION", "ENTITY", "REASON", "TRIES", "KEY", "ERROR"}}
	for _, l := range p.Items {
		rows = append(rows, []string{
			moment(orZero(l.CreatedAt)), orNone(l.Observer), actionName(l.Action, l.ActionType), entityName(l.EntityType, l.EntityID),
			string(l.Reason), strconv.Itoa(l.AttemptCount), l.Key, printable(cause(l.Error)),
		})
	}
	return rows
}

// rows are those of deliveries in any state.
func (p page) rows() [][]string {
	rows := [][]string{{"STORED", "STATE", "DUE", "OBSERVER", "ACTION", "ENTITY", "TRIES", "KEY", "ERROR"}}
	for _, l := range p.Items {
		due := "-"
		if l.State.Due() {
			due = moment(orZero(l.RunAt))
		}
		rows = append(rows, []string{
			moment(orZero(l.CreatedAt)), l.stateName(), due, orNone(l.Observer), actionName(l.Action, l.ActionType),
			entityName(l.EntityType, l.EntityID), strconv.Itoa(l.AttemptCount), l.Key, printable(cause(l.Error)),
		})
	}
	return rows
}

// stateName is the state, with the reason of a dead letter.
func (l letter) stateName() string {
	if l.Reason != "" && l.State.Finished() {
		return string(l.State) + " (" + string(l.Reason) + ")"
	}
	return string(l.State)
}

// writeRows prints a table whose last column, an error, is cut to what width
// leaves to it.
func writeRows(w io.Writer, rows [][]string, width int) {
	t := newTable(w)
	room := lastRoom(rows, width)
	for _, row := range rows {
		if last := len(row) - 1; width > 0 {
			row[last] = short(row[last], max(room, leastError))
		}
		t.row(row...)
	}
	t.end()
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
