package cli

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
)

func (v details) text(w io.Writer) {
	t := newTable(w)
	v.subject(t)
	v.history(t)
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

// subject is what the delivery is.
func (v details) subject(t table) {
	t.row("key:", v.Key)
	t.row("state:", v.stateText())
	if v.Error != "" {
		t.row("error:", v.Error)
		t.row("fingerprint:", v.Fingerprint)
	}
	if v.Observer != "" {
		t.row("observer:", v.Observer)
		t.row("action:", actionName(v.Action, v.ActionType))
	}
	if v.EventID != "" {
		t.row("event:", strings.TrimSpace(string(v.EventType)+" "+entityName(v.EntityType, v.EntityID)))
	}
	if v.Endpoint != "" {
		t.row("endpoint:", v.Endpoint)
	}
	if v.Queue != "" {
		t.row("queue:", v.Queue+", priority "+strconv.Itoa(v.Priority))
	}
	if v.Lane != "" {
		t.row("order:", v.orderText())
	}
}

// history is what happened to it, beside its attempts.
func (v details) history(t table) {
	t.row("stored:", moment(orZero(v.CreatedAt)))
	t.row("updated:", moment(orZero(v.UpdatedAt)))
	if v.EditedAt != nil {
		t.row("edited:", moment(*v.EditedAt))
	}
	if v.Redrives > 0 {
		t.row("redriven:", count(v.Redrives, "time"))
	}
	if v.LeasedUntil != nil {
		t.row("being run by:", v.LeaseOwner+" until "+moment(*v.LeasedUntil))
	}
	if v.Lost > 0 {
		t.row("lost:", count(v.Lost, "attempt")+" of processes that ended, to be recorded when it runs again")
	}
}

func (v details) stateText() string {
	text := v.stateName()
	switch {
	case v.State.Due():
		text += " for " + moment(orZero(v.RunAt))
	case v.State == observer.Parked:
		text += " behind an earlier one of its entity"
	case v.State == observer.Dead && v.blocks():
		text += "; what comes later for its entity waits until it is out of the way"
	}
	return text
}

// blocks reports whether a dead one keeps others waiting.
func (v details) blocks() bool {
	return v.Lane != "" && v.Order == observer.OrderStrict && v.BlocksWhenDead
}

func (v details) orderText() string {
	return string(v.Order) + ", in the lane " + v.Lane
}

func (v details) attempts(w io.Writer) {
	if len(v.Attempts) == 0 {
		return
	}
	_, _ = fmt.Fprint(w, "\nattempts\n")
	t := newTable(w, "  NUMBER", "AT", "TOOK", "STATUS", "RESULT")
	for _, a := range v.Attempts {
		status := "-"
		if a.Status != 0 {
			status = strconv.Itoa(a.Status)
		}
		took := time.Duration(a.DurationMS * float64(time.Millisecond)).Round(100 * time.Microsecond)
		t.row("  "+strconv.Itoa(a.Number), moment(a.At), took.String(), status, a.result())
		if a.Detail != "" && !a.Cached {
			t.row("", "", "", "", "answer: "+short(a.Detail, 200))
		}
	}
	t.end()
	for _, a := range v.Attempts {
		a.writeStack(w)
	}
}

func (a attempt) result() string {
	result := cmp.Or(a.Error, "ok")
	if a.Cached {
		result += ", " + short(a.Detail, 200)
	}
	if a.Unknown {
		result = "unknown, it may have arrived: " + result
	}
	return result
}

func (a attempt) writeStack(w io.Writer) {
	if a.Stack == "" {
		return
	}
	_, _ = fmt.Fprintf(w, "\nattempt %d panicked\n", a.Number)
	for line := range strings.Lines(strings.TrimSpace(a.Stack)) {
		indent := len(line) - len(strings.TrimLeft(line, "\t"))
		_, _ = fmt.Fprintln(w, strings.Repeat("  ", indent+1)+printable(strings.TrimSpace(line)))
	}
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
