// Package envelope is the JSON in which state stores keep what a delivery is
// about and what became of it. All durable stores keep the same, so that the
// form is defined, and changed, in one place.
package envelope

import (
	"encoding/json"
	"time"

	observer "github.com/fraiseql/observer"
)

// event is an event without its images. Its keys are those of the event's own
// JSON form; that form itself is not used because it fails on images that are not
// JSON and on years beyond 9999, and what cannot be stored would hold up the log
// behind it. T is how a store writes texts in JSON.
type event[T ~string] struct {
	ID            T      `json:"id"`
	EventType     T      `json:"event_type"`
	EntityType    T      `json:"entity_type"`
	EntityID      T      `json:"entity_id,omitempty"`
	UserID        T      `json:"user_id,omitempty"`
	TenantID      T      `json:"tenant_id,omitempty"`
	Seconds       int64  `json:"timestamp_s"`
	Nanoseconds   int    `json:"timestamp_ns"`
	DurationMS    *int64 `json:"duration_ms,omitempty"`
	Seq           *int64 `json:"seq,omitempty"`
	ActorType     T      `json:"actor_type,omitempty"`
	ActingFor     T      `json:"acting_for,omitempty"`
	SchemaVersion T      `json:"schema_version,omitempty"`
	CDCSource     T      `json:"cdc_source,omitempty"`
	TraceParent   T      `json:"traceparent,omitempty"`
	TraceState    T      `json:"tracestate,omitempty"`
}

func newEvent[T ~string](e *observer.Event) event[T] {
	return event[T]{
		ID: T(e.ID), EventType: T(e.Operation), EntityType: T(e.EntityType), EntityID: T(e.EntityID),
		UserID: T(e.UserID), TenantID: T(e.TenantID),
		Seconds: e.Timestamp.Unix(), Nanoseconds: e.Timestamp.Nanosecond(),
		DurationMS: e.DurationMS, Seq: e.Seq, ActorType: T(e.ActorType), ActingFor: T(e.ActingFor),
		SchemaVersion: T(e.SchemaVersion), CDCSource: T(e.CDCSource),
		TraceParent: T(e.TraceParent), TraceState: T(e.TraceState),
	}
}

func (w event[T]) event(data, before json.RawMessage) *observer.Event {
	return &observer.Event{
		ID: string(w.ID), Operation: observer.Operation(w.EventType),
		EntityType: string(w.EntityType), EntityID: string(w.EntityID),
		Data: data, Before: before, UserID: string(w.UserID), TenantID: string(w.TenantID),
		Timestamp:  time.Unix(w.Seconds, int64(w.Nanoseconds)).UTC(),
		DurationMS: w.DurationMS, Seq: w.Seq, ActorType: string(w.ActorType), ActingFor: string(w.ActingFor),
		SchemaVersion: string(w.SchemaVersion), CDCSource: string(w.CDCSource),
		TraceParent: string(w.TraceParent), TraceState: string(w.TraceState),
	}
}

// malformed is a malformed entry without its raw text.
type malformed[T ~string] struct {
	ID         T `json:"id"`
	EntityType T `json:"entity_type,omitempty"`
	EntityID   T `json:"entity_id,omitempty"`
	Reason     T `json:"reason,omitempty"`
	Source     T `json:"source,omitempty"`
	Position   T `json:"position,omitempty"`
}

func newMalformed[T ~string](m *observer.Malformed) malformed[T] {
	return malformed[T]{
		ID: T(m.ID), EntityType: T(m.EntityType), EntityID: T(m.EntityID),
		Reason: T(m.Reason), Source: T(m.Source), Position: T(m.Position),
	}
}

func (w malformed[T]) malformed(raw json.RawMessage) *observer.Malformed {
	return &observer.Malformed{
		ID: string(w.ID), EntityType: string(w.EntityType), EntityID: string(w.EntityID), Raw: raw,
		Reason: string(w.Reason), Source: string(w.Source), Position: observer.Position(w.Position),
	}
}

// Subject is what d is about: the id of its event or malformed entry, and the
// entity. All are "" when it has neither.
func Subject(d *observer.Delivery) (id, entityType, entityID string) {
	switch {
	case d.Event != nil:
		return d.Event.ID, d.Event.EntityType, d.Event.EntityID
	case d.Malformed != nil:
		return d.Malformed.ID, d.Malformed.EntityType, d.Malformed.EntityID
	}
	return "", "", ""
}
