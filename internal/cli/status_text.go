package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/config"
)

// statusText prints a status for people.
type statusText struct {
	*status
	detailed bool
}

func (s statusText) write(w io.Writer) {
	t := newTable(w)
	t.row("daemon:", s.daemon())
	t.row("state:", s.State.Path+s.noState())
	t.end()
	for _, d := range s.Databases {
		_, _ = fmt.Fprintf(w, "\ndatabase %s\n", printable(d.Name))
		s.database(w, d)
	}
	if s.Stream != nil {
		s.stream(w, s.Stream)
	}
	_, _ = fmt.Fprint(w, "\ndeliveries\n")
	s.deliveries(w)
	if s.Chains != nil && len(s.Chains.Observers) > 0 {
		_, _ = fmt.Fprint(w, "\nchains, by the configuration as it is now\n")
		writeChains(w, s.Chains)
	}
}

func (s statusText) daemon() string {
	if !s.Daemon.Running {
		return "not running"
	}
	return "running: " + strings.Join(s.Daemon.Processes, ", ")
}

func (s statusText) noState() string {
	if s.State.Exists {
		return ""
	}
	return " (no state yet: no daemon has run)"
}

func (s statusText) database(w io.Writer, d *databaseStatus) {
	t := newTable(w)
	if d.Kind == config.SQLite {
		t.row("  file:", d.Path)
	} else {
		t.row("  server:", d.Path)
	}
	t.row("  read by:", readerText(d.Reader))
	t.row("  checkpoint:", checkpointText(d.Checkpoint))
	if d.Verified != nil {
		t.row("  verified:", checkpointText(d.Verified))
	}
	t.row("  backlog:", backlogText(d.Backlog))
	t.row("  retention:", retentionText(d.RetentionSeconds))
	if s.detailed && d.Checkpoint != nil {
		t.row("  position:", string(d.Checkpoint.Position))
		t.row("  done ahead:", count(d.Checkpoint.DoneAhead, "row"))
	}
	if d.Problem != "" {
		t.row("  problem:", d.Problem)
	}
	t.end()
	if s.detailed && len(d.Captures) > 0 {
		writeCaptures(w, "  ", d.Captures)
	}
}

func readerText(r *readerStatus) string {
	if r == nil {
		return "nobody"
	}
	return fmt.Sprintf("%s since %s (term %d)", r.Holder, moment(r.Since), r.Term)
}

func checkpointText(cp *checkpointStatus) string {
	if cp == nil {
		return "none yet"
	}
	return "saved " + seconds(cp.AgeSeconds) + " ago (" + moment(cp.SavedAt) + ")"
}

func backlogText(b *backlogStatus) string {
	switch {
	case b == nil:
		return unknownValue
	case b.Rows == 0:
		return "0 rows"
	case b.OldestAgeSeconds == nil:
		return count(int(b.Rows), "row") + ", the age of the oldest is " + unknownValue
	}
	return count(int(b.Rows), "row") + ", the oldest from " + seconds(*b.OldestAgeSeconds) + " ago"
}

func retentionText(s int64) string {
	if s == 0 {
		return "handled rows are kept for ever"
	}
	return "handled rows are kept for " + seconds(s)
}

func seconds(s int64) string { return age(time.Duration(s) * time.Second) }

func (s statusText) deliveries(w io.Writer) {
	t := newTable(w)
	d := s.Deliveries
	if d == nil {
		t.row("  no state yet: none")
		t.end()
		return
	}
	s.unfinished(t, d)
	s.dead(t, d)
	t.end()
	if len(d.Endpoints) > 0 {
		_, _ = fmt.Fprint(w, "\nendpoints\n")
		s.endpoints(w, d)
	}
}

func (s statusText) unfinished(t table, d *deliveryStatus) {
	unfinished := strconv.Itoa(d.Unfinished)
	if d.NextDueAt != nil {
		unfinished += ", the next due " + moment(*d.NextDueAt)
	}
	t.row("  unfinished:", unfinished)
	for _, state := range observer.States() {
		if n := d.States[state]; n > 0 && (!state.Finished() || s.detailed && state != observer.Dead) {
			t.row("    "+string(state)+":", strconv.Itoa(n))
		}
	}
	if d.OldestDueAt != nil {
		t.row("  oldest due:", "since "+age(s.Now.Sub(*d.OldestDueAt))+" ("+moment(*d.OldestDueAt)+")")
	}
}

func (s statusText) dead(t table, d *deliveryStatus) {
	dead := fmt.Sprintf("%d of at most %d", d.Dead, d.MaxDead)
	if d.OldestDeadAt != nil {
		dead += ", the oldest from " + age(s.Now.Sub(*d.OldestDeadAt)) + " ago"
	}
	t.row("  dead:", dead)
	for _, name := range slices.Sorted(maps.Keys(d.DeadByObserver)) {
		t.row("    observer "+orNone(name)+":", strconv.Itoa(d.DeadByObserver[name]))
	}
	if s.detailed {
		for _, reason := range slices.Sorted(maps.Keys(d.DeadByReason)) {
			t.row("    reason "+string(reason)+":", strconv.Itoa(d.DeadByReason[reason]))
		}
	}
}

// endpoints prints those that fail or are paused.
func (s statusText) endpoints(w io.Writer, d *deliveryStatus) {
	t := newTable(w)
	for _, e := range d.Endpoints {
		state, since := e.state()
		t.row("  "+e.Name+":", state+" since "+since+", "+e.waiting())
	}
	t.end()
	if d.OtherEndpoints > 0 {
		_, _ = fmt.Fprintf(w, "  and %d more: `%s endpoints list --top 0`\n", d.OtherEndpoints, program)
	}
}
