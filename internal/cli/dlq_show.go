package cli

import (
	"cmp"
	"encoding/json"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

// details is everything about a stored delivery.
type details struct {
	letter
	// Order is what may overtake it, Lane the deliveries among which it keeps its
	// order; "" when it keeps none.
	Order observer.Order `json:"order"`
	Lane  string         `json:"lane"`
	// BlocksWhenDead: what comes later in its lane waits while it is dead.
	BlocksWhenDead bool   `json:"blocks_when_dead"`
	Queue          string `json:"queue"`
	Priority       int    `json:"priority"`
	// Redrives is how often a person had it run again, EditedAt when one last
	// changed its request.
	Redrives int        `json:"redrives"`
	EditedAt *time.Time `json:"edited_at"`
	// Lost are attempts of processes that died; they are recorded when it runs
	// the next time.
	Lost int `json:"lost"`
	// LeasedUntil is until when somebody runs it; null when nobody does.
	LeasedUntil *time.Time      `json:"leased_until"`
	LeaseOwner  string          `json:"lease_owner"`
	Attempts    []attempt       `json:"attempts"`
	Request     json.RawMessage `json:"request"`
	Event       json.RawMessage `json:"event"`
	// Malformed is the log entry that is not an event, null for an event.
	Malformed *malformed `json:"malformed"`
}

type attempt struct {
	Number     int       `json:"number"`
	At         time.Time `json:"at"`
	DurationMS float64   `json:"duration_ms"`
	Status     int       `json:"status"`
	Detail     string    `json:"detail"`
	Error      string    `json:"error"`
	// Unknown: it may have arrived. Stack is where the action panicked.
	Unknown bool   `json:"unknown"`
	Stack   string `json:"stack"`
	// Cached: nothing was sent, because an equal request had succeeded.
	Cached bool `json:"cached,omitempty"`
}

type malformed struct {
	Reason   string            `json:"reason"`
	Source   string            `json:"source"`
	Position observer.Position `json:"position"`
	Raw      json.RawMessage   `json:"raw"`
}

func viewDetails(d *observer.Delivery, now time.Time) details {
	v := details{
		letter: viewLetter(d), Attempts: []attempt{}, Request: rawJSON(d.Request),
		Order: cmp.Or(d.Order, observer.OrderNone), Lane: d.Lane(), BlocksWhenDead: d.BlockWhenDead,
		Queue: d.Queue, Priority: cmp.Or(d.Priority, observer.DefaultPriority),
		Redrives: d.Redrives, EditedAt: when(d.EditedAt), Lost: d.Lost,
	}
	if d.LeaseUntil.After(now) {
		v.LeasedUntil, v.LeaseOwner = when(d.LeaseUntil), d.LeaseOwner
	}
	for _, a := range d.Attempts {
		v.Attempts = append(v.Attempts, attempt{
			Number: a.Number, At: a.At.UTC(), DurationMS: float64(a.Duration.Microseconds()) / 1000,
			Status: a.Status, Detail: a.Detail, Error: a.Error, Unknown: a.Unknown, Stack: a.Stack, Cached: a.Cached,
		})
	}
	if d.Event != nil {
		v.Event = eventJSON(d.Event)
	}
	if m := d.Malformed; m != nil {
		v.Malformed = &malformed{Reason: m.Reason, Source: m.Source, Position: m.Position, Raw: rawJSON(m.Raw)}
	}
	return v
}

// eventJSON is the event as receivers get it. One whose images are not JSON has
// no such form: its data is then shown as text.
func eventJSON(e *observer.Event) json.RawMessage {
	if text, err := json.Marshal(e); err == nil {
		return text
	}
	text, err := json.Marshal(map[string]string{
		"id": e.ID, "event_type": string(e.Operation), "entity_type": e.EntityType, "entity_id": e.EntityID, "data": string(e.Data),
	})
	if err != nil {
		return nil // texts always encode
	}
	return text
}

// rawJSON is raw where it is JSON, else the same as a JSON string.
func rawJSON(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 || json.Valid(raw) {
		return raw
	}
	text, err := json.Marshal(string(raw))
	if err != nil {
		return nil // texts always encode
	}
	return text
}

func (c *cli) dlqShow() *cobra.Command {
	cmd := &cobra.Command{
		Use: "show KEY", Short: "Show everything about a stored delivery, dead or not", Args: arguments(1, 1),
	}
	c.settings.flags(cmd)
	cmd.RunE = c.do(func(cmd *cobra.Command, args []string) error {
		d, err := c.readLetter(cmd, args[0])
		if err != nil {
			return err
		}
		v := viewDetails(d, time.Now())
		return c.print(v, v.text)
	})
	return cmd
}

// readLetter reads one stored delivery.
func (c *cli) readLetter(cmd *cobra.Command, key string) (d *observer.Delivery, err error) {
	err = c.reading(cmd.Context(), func(store observer.StateStore) (err error) {
		d, err = store.Delivery(cmd.Context(), key)
		return err
	})
	return d, notFound(key, err)
}
