package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer"
)

// details is everything about a stored delivery.
type details struct {
	letter
	RunAt *time.Time `json:"run_at"`
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
}

type malformed struct {
	Reason   string            `json:"reason"`
	Source   string            `json:"source"`
	Position observer.Position `json:"position"`
	Raw      json.RawMessage   `json:"raw"`
}

func viewDetails(d *observer.Delivery, now time.Time) details {
	v := details{letter: viewLetter(d), RunAt: when(d.RunAt), Attempts: []attempt{}, Request: rawJSON(d.Request)}
	if d.LeaseUntil.After(now) {
		v.LeasedUntil, v.LeaseOwner = when(d.LeaseUntil), d.LeaseOwner
	}
	for _, a := range d.Attempts {
		v.Attempts = append(v.Attempts, attempt{
			Number: a.Number, At: a.At.UTC(), DurationMS: float64(a.Duration.Microseconds()) / 1000,
			Status: a.Status, Detail: a.Detail, Error: a.Error,
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
		Use: "show KEY", Short: "Show everything about a dead letter", Args: arguments(1, 1),
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
func (c *cli) readLetter(cmd *cobra.Command, key string) (_ *observer.Delivery, err error) {
	c.settings.optional = true
	cfg, err := c.settings.loadAll()
	if err != nil {
		return nil, err
	}
	store, err := readState(cmd.Context(), cfg)
	if err != nil {
		return nil, notFound(key, err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	d, err := store.Delivery(cmd.Context(), key)
	if err != nil {
		return nil, notFound(key, err)
	}
	return d, nil
}

func (v details) text(w io.Writer) {
	t := newTable(w)
	t.row("key:", v.Key)
	t.row("state:", v.stateText())
	if v.Error != "" {
		t.row("error:", v.Error)
	}
	if v.Observer != "" {
		t.row("observer:", v.Observer)
		t.row("action:", actionName(v.Action, v.ActionType))
	}
	if v.EventID != "" {
		t.row("event:", strings.TrimSpace(string(v.EventType)+" "+entityName(v.EntityType, v.EntityID)))
	}
	t.row("stored:", moment(orZero(v.CreatedAt)))
	t.row("updated:", moment(orZero(v.UpdatedAt)))
	if v.LeasedUntil != nil {
		t.row("being run by:", v.LeaseOwner+" until "+moment(*v.LeasedUntil))
	}
	t.end()
	v.attempts(w)
	section(w, "request", v.Request)
	section(w, "event", v.Event)
	if m := v.Malformed; m != nil {
		_, _ = fmt.Fprintf(w, "\nlog entry of %s that is not an event: %s\n", printable(m.Source), printable(m.Reason))
		_, _ = fmt.Fprintln(w, printable(v.repair()))
		section(w, "entry", m.Raw)
	}
}

func (v details) stateText() string {
	text := string(v.State)
	if v.Reason != "" {
		text += " (" + string(v.Reason) + ")"
	}
	if v.State == observer.Scheduled {
		text += " for " + moment(orZero(v.RunAt))
	}
	return text
}

func (v details) attempts(w io.Writer) {
	if len(v.Attempts) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nattempts\n")
	t := newTable(w, "  NUMBER", "AT", "TOOK", "STATUS", "RESULT")
	for _, a := range v.Attempts {
		result, status := a.Error, "-"
		if result == "" {
			result = "ok"
		}
		if a.Status != 0 {
			status = strconv.Itoa(a.Status)
		}
		took := time.Duration(a.DurationMS * float64(time.Millisecond)).Round(100 * time.Microsecond)
		t.row("  "+strconv.Itoa(a.Number), moment(a.At), took.String(), status, result)
		if a.Detail != "" {
			t.row("", "", "", "", "answer: "+short(a.Detail, 200))
		}
	}
	t.end()
}

// repair says what to do about a log entry that is not an event. A retry reads
// the row from the log again: nothing of what is stored here need be changed.
func (v details) repair() string {
	var row struct {
		Key json.Number `json:"pk_entity_change_log"`
	}
	which := "the row"
	if json.Unmarshal(v.Malformed.Raw, &row) == nil && row.Key != "" {
		which = "the row of the change log of " + v.Malformed.Source + " whose pk_entity_change_log is " + row.Key.String()
	}
	return fmt.Sprintf("repair %s, then run `%s dlq retry %s`, which reads it again; or give it up with dlq remove", which, program, v.Key)
}

// section prints JSON indented. Valid JSON holds no control characters, so the
// terminal is safe from it.
func section(w io.Writer, title string, raw json.RawMessage) {
	if len(raw) == 0 {
		return
	}
	var b bytes.Buffer
	if err := json.Indent(&b, raw, "  ", "  "); err != nil {
		return // raw is JSON: rawJSON sees to it
	}
	_, _ = fmt.Fprintf(w, "\n%s\n  %s\n", title, b.String())
}
