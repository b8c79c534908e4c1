package sqlite

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
	ID            string             `json:"id"`
	EventType     observer.Operation `json:"event_type"`
	EntityType    string             `json:"entity_type"`
	EntityID      string             `json:"entity_id,omitempty"`
	UserID        string             `json:"user_id,omitempty"`
	TenantID      string             `json:"tenant_id,omitempty"`
	Seconds       int64              `json:"timestamp_s"`
	Nanoseconds   int                `json:"timestamp_ns"`
	DurationMS    *int64             `json:"duration_ms,omitempty"`
	Seq           *int64             `json:"seq,omitempty"`
	ActorType     string             `json:"actor_type,omitempty"`
	ActingFor     string             `json:"acting_for,omitempty"`
	SchemaVersion string             `json:"schema_version,omitempty"`
	CDCSource     string             `json:"cdc_source,omitempty"`
}

func newEnvelope(e *observer.Event) envelope {
	return envelope{
		ID: e.ID, EventType: e.Operation, EntityType: e.EntityType, EntityID: e.EntityID,
		UserID: e.UserID, TenantID: e.TenantID,
		Seconds: e.Timestamp.Unix(), Nanoseconds: e.Timestamp.Nanosecond(),
		DurationMS: e.DurationMS, Seq: e.Seq, ActorType: e.ActorType, ActingFor: e.ActingFor,
		SchemaVersion: e.SchemaVersion, CDCSource: e.CDCSource,
	}
}

func (w envelope) event(data, before json.RawMessage) *observer.Event {
	return &observer.Event{
		ID: w.ID, Operation: w.EventType, EntityType: w.EntityType, EntityID: w.EntityID,
		Data: data, Before: before, UserID: w.UserID, TenantID: w.TenantID,
		Timestamp:  time.Unix(w.Seconds, int64(w.Nanoseconds)).UTC(),
		DurationMS: w.DurationMS, Seq: w.Seq, ActorType: w.ActorType, ActingFor: w.ActingFor,
		SchemaVersion: w.SchemaVersion, CDCSource: w.CDCSource,
	}
}

// malformedEnvelope is a malformed entry without its raw text.
type malformedEnvelope struct {
	ID         string            `json:"id"`
	EntityType string            `json:"entity_type,omitempty"`
	EntityID   string            `json:"entity_id,omitempty"`
	Reason     string            `json:"reason,omitempty"`
	Source     string            `json:"source,omitempty"`
	Position   observer.Position `json:"position,omitempty"`
}

func newMalformedEnvelope(m *observer.Malformed) malformedEnvelope {
	return malformedEnvelope{
		ID: m.ID, EntityType: m.EntityType, EntityID: m.EntityID,
		Reason: m.Reason, Source: m.Source, Position: m.Position,
	}
}

func (w malformedEnvelope) malformed(raw json.RawMessage) *observer.Malformed {
	return &observer.Malformed{
		ID: w.ID, EntityType: w.EntityType, EntityID: w.EntityID, Raw: raw,
		Reason: w.Reason, Source: w.Source, Position: w.Position,
	}
}
