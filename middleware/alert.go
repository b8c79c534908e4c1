package middleware

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/fraiseql/observer"
)

// AlertEntity is the entity type of the events that alerts are made of.
const AlertEntity = "DeadLetter"

// Alerts raises an alert for a dead letter by scheduling a delivery of its own:
// it is sent, retried and dead-lettered like every other. It is safe for
// concurrent use.
type Alerts struct {
	// Name stands in the alert's delivery in place of the observer, and
	// ActionType is the type of its action.
	Name, ActionType string
	// MinInterval is the least time between two alerts; one minute when zero.
	// What is not sent is counted in the next one.
	MinInterval time.Duration
	// Keep stores the alert's delivery, and Wake tells the workers of it.
	Keep Keep
	Wake func()
	// Logger is required.
	Logger *slog.Logger

	mu         sync.Mutex
	last       time.Time
	raising    bool
	suppressed int
}

// Raise schedules an alert about d unless one was raised within MinInterval.
// That it cannot be stored is logged, and the next one may follow at once: the
// dead letter itself is safe. It is stored also after ctx ended.
func (a *Alerts) Raise(ctx context.Context, d *observer.Delivery) {
	suppressed, due := a.begin()
	if !due {
		return
	}
	err := a.schedule(ctx, d, suppressed)
	a.end(suppressed, err)
	if err != nil {
		a.Logger.Error("alert could not be scheduled", "delivery", d.Key, "error", err)
	}
}

// begin says whether an alert is due, and how many it stands for besides. While
// one is being stored no other is due: a slow store must not hold up every lane.
func (a *Alerts) begin() (suppressed int, due bool) {
	interval := a.MinInterval
	if interval <= 0 {
		interval = time.Minute
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.raising || !a.last.IsZero() && time.Since(a.last) < interval {
		a.suppressed++
		return 0, false
	}
	a.raising = true
	return a.suppressed, true
}

func (a *Alerts) end(suppressed int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.raising = false
	if err != nil {
		a.suppressed++
		return
	}
	a.suppressed, a.last = a.suppressed-suppressed, time.Now()
}

func (a *Alerts) schedule(ctx context.Context, d *observer.Delivery, suppressed int) error {
	alert, err := alertEvent(d, suppressed)
	if err != nil {
		return err
	}
	delivery := observer.NewDelivery(alert, a.Name, 0, a.ActionType)
	delivery.Enqueue(time.Now())
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), keepTimeout)
	defer cancel()
	if err := a.Keep(ctx, delivery); err != nil {
		return err
	}
	a.Wake()
	return nil
}

// alertEvent is the event an alert's action sees: data.delivery,
// data.observer, data.action_type, data.reason, data.error, data.attempts,
// data.entity_type, data.entity_id, data.event_id and data.suppressed.
func alertEvent(d *observer.Delivery, suppressed int) (*observer.Event, error) {
	fields := map[string]any{
		"delivery": d.Key, "observer": d.Observer, "action_type": d.ActionType,
		"reason": d.Reason, "error": d.Error, "attempts": len(d.Attempts), "suppressed": suppressed,
	}
	alert := &observer.Event{
		ID: idOf("alert " + d.Key), Operation: observer.Custom, EntityType: AlertEntity,
		EntityID: d.Key, Timestamp: time.Now(),
	}
	if d.Event != nil {
		fields["entity_type"], fields["entity_id"], fields["event_id"] = d.Event.EntityType, d.Event.EntityID, d.Event.ID
		alert.TenantID = d.Event.TenantID
	}
	var err error
	alert.Data, err = json.Marshal(fields)
	return alert, err
}

// idOf makes a UUID (version 8) of a name, so that an alert raised again about
// the same delivery has the same id.
func idOf(name string) string {
	h := sha256.Sum256([]byte(name))
	h[6] = h[6]&0x0f | 0x80
	h[8] = h[8]&0x3f | 0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", h[0:4], h[4:6], h[6:8], h[8:10], h[10:16])
}
