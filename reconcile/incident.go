package reconcile

import (
	"context"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// incident is losses in a row: what a stream lost may take many batches.
type incident struct {
	mu   sync.Mutex
	open bool
	// busy: a batch is being verified, which may be part of it.
	busy bool
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
	if !v.incident.begin(b.read, v.cfg.Grace) {
		return
	}
	n, first := len(b.lacking), b.lacking[0].ID
	v.cfg.Logger.Error("the stream lost events that nobody handled; they are published again",
		"events", n, "event_ids", idsOf(b.lacking[:min(n, namedEvents)]), "read_at", b.read)
	if v.cfg.Alert != nil {
		v.cfg.Alert(ctx, n, first)
	}
}

// begin is false when a loss in what was read at a time belongs to the incident
// that there is. A loss that comes long after the last one is another incident.
func (i *incident) begin(read time.Time, grace time.Duration) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	same := i.open && (i.ended.IsZero() || read.Sub(i.ended) <= grace)
	if !same {
		i.events = 0
	}
	i.open, i.ended = true, time.Time{}
	return !same
}

func (i *incident) republished(n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events += n
}

func (i *incident) look(busy bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.busy = busy
}

// settle ends the incident with the first batch without a loss.
func (v *Verifier) settle(b *batch) {
	if b.rounds > 0 {
		v.incident.mu.Lock()
		defer v.incident.mu.Unlock()
		v.incident.ended = time.Now()
		return
	}
	v.over(func(*incident) bool { return true })
}

// over says that what was lost is handled, if there is an incident that is over.
func (v *Verifier) over(is func(*incident) bool) {
	v.incident.mu.Lock()
	defer v.incident.mu.Unlock()
	if v.incident.open && is(&v.incident) {
		v.cfg.Logger.Info("what the stream lost is handled", "events", v.incident.events)
		v.incident.open, v.incident.events, v.incident.ended = false, 0, time.Time{}
	}
}

// Watch ends incidents after which nothing more is written, until ctx ends. It runs
// beside the relay. Without it an incident ends with the next events.
func (v *Verifier) Watch(ctx context.Context) {
	for backoff.Wait(ctx, nil, v.cfg.Interval) {
		v.over(func(i *incident) bool { return !i.busy && !i.ended.IsZero() && time.Since(i.ended) > v.cfg.Grace })
	}
}

func idsOf(events []*observer.Event) []string {
	ids := make([]string, len(events))
	for i, e := range events {
		ids[i] = e.ID
	}
	return ids
}
