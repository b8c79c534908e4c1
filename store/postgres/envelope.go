package postgres

import (
	"encoding/json"
	"time"

	observer "github.com/fraiseql/observer"
)

// envelope is an event without its images. Its keys are those of the event's
// own JSON form; that form itself is not used because it fails on images that
// are not JSON and on years beyond 9999, and what cannot be stored would hold
// up the log behind it.
type envelope struct {
	ID            exact  `json:"id"`
	EventType     exact  `json:"event_type"`
	EntityType    exact  `json:"entity_type"`
	EntityID      exact  `json:"entity_id,omitempty"`
	UserID        exact  `json:"user_id,omitempty"`
	TenantID      exact  `json:"tenant_id,omitempty"`
	Seconds       int64  `json:"timestamp_s"`
	Nanoseconds   int    `json:"timestamp_ns"`
	DurationMS    *int64 `json:"duration_ms,omitempty"`
	Seq           *int64 `json:"seq,omitempty"`
	ActorType     exact  `json:"actor_type,omitempty"`
	ActingFor     exact  `json:"acting_for,omitempty"`
	SchemaVersion exact  `json:"schema_version,omitempty"`
	CDCSource     exact  `json:"cdc_source,omitempty"`
}

func newEnvelope(e *observer.Event) envelope {
	return envelope{
		ID: exact(e.ID), EventType: exact(e.Operation), EntityType: exact(e.EntityType), EntityID: exact(e.EntityID),
		UserID: exact(e.UserID), TenantID: exact(e.TenantID),
		Seconds: e.Timestamp.Unix(), Nanoseconds: e.Timestamp.Nanosecond(),
		DurationMS: e.DurationMS, Seq: e.Seq, ActorType: exact(e.ActorType), ActingFor: exact(e.ActingFor),
		SchemaVersion: exact(e.SchemaVersion), CDCSource: exact(e.CDCSource),
	}
}

func (w envelope) event(data, before json.RawMessage) *observer.Event {
	return &observer.Event{
		ID: string(w.ID), Operation: observer.Operation(w.EventType),
		EntityType: string(w.EntityType), EntityID: string(w.EntityID),
		Data: data, Before: before, UserID: string(w.UserID), TenantID: string(w.TenantID),
		Timestamp:  time.Unix(w.Seconds, int64(w.Nanoseconds)).UTC(),
		DurationMS: w.DurationMS, Seq: w.Seq, ActorType: string(w.ActorType), ActingFor: string(w.ActingFor),
		SchemaVersion: string(w.SchemaVersion), CDCSource: string(w.CDCSource),
	}
}

// malformedEnvelope is a malformed entry without its raw text.
type malformedEnvelope struct {
	ID         exact `json:"id"`
	EntityType exact `json:"entity_type,omitempty"`
	EntityID   exact `json:"entity_id,omitempty"`
	Reason     exact `json:"reason,omitempty"`
	Source     exact `json:"source,omitempty"`
	Position   exact `json:"position,omitempty"`
}

func newMalformedEnvelope(m *observer.Malformed) malformedEnvelope {
	return malformedEnvelope{
		ID: exact(m.ID), EntityType: exact(m.EntityType), EntityID: exact(m.EntityID),
		Reason: exact(m.Reason), Source: exact(m.Source), Position: exact(m.Position),
	}
}

func (w malformedEnvelope) malformed(raw json.RawMessage) *observer.Malformed {
	return &observer.Malformed{
		ID: string(w.ID), EntityType: string(w.EntityType), EntityID: string(w.EntityID), Raw: raw,
		Reason: string(w.Reason), Source: string(w.Source), Position: observer.Position(w.Position),
	}
}
