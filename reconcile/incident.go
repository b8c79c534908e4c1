package reconcile

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
)

// incident is losses in a row: what a stream lost may take many batches.
type incident struct {
	open bool
	// events counts what was published again.
	events int
	// ended is when a batch with a loss was verified, zero during one.
	ended time.Time
}

// namedEvents is how many ids are logged.
const namedEvents = 5

// notice tells people that the events of b are missing, unless they were told of
// those just before.
func (v *Verifier) notice(ctx context.Context, b *batch) {
	if v.incident.open && (v.incident.ended.IsZero() || b.read.Sub(v.incident.ended) <= v.cfg.Grace) {
		v.incident.ended = time.Time{}
		return
	}
	v.incident = incident{open: true}
	n, first := len(b.lacking), b.lacking[0].ID
	v.cfg.Logger.Error("the stream lost events that nobody handled; they are published again",
		"events", n, "event_ids", idsOf(b.lacking[:min(n, namedEvents)]), "read_at", b.read)
	if v.cfg.Alert != nil {
		v.cfg.Alert(ctx, n, first)
	}
}

// settle ends the incident with the first batch without a loss. A loss that comes
// long after the last one is another incident, too.
func (v *Verifier) settle(b *batch) {
	if b.rounds > 0 {
		v.incident.ended = time.Now()
		return
	}
	if v.incident.open {
		v.cfg.Logger.Info("what the stream lost is handled", "events", v.incident.events)
	}
	v.incident = incident{}
}

func idsOf(events []*observer.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}
