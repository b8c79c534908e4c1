package observer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"
)

// wireEvent is the JSON form of an event on every transport and in every
// payload. All keys are always present, so receivers can rely on the shape.
type wireEvent struct {
	ID            string          `json:"id"`
	EventType     string          `json:"event_type"`
	EntityType    string          `json:"entity_type"`
	EntityID      *string         `json:"entity_id"`
	Data          json.RawMessage `json:"data"`
	Changes       Changes         `json:"changes"`
	UserID        *string         `json:"user_id"`
	TenantID      *string         `json:"tenant_id"`
	Timestamp     time.Time       `json:"timestamp"`
	DurationMS    *int64          `json:"duration_ms"`
	Seq           *int64          `json:"seq"`
	ActorType     *string         `json:"actor_type"`
	ActingFor     *string         `json:"acting_for"`
	SchemaVersion *string         `json:"schema_version"`
	CDCSource     *string         `json:"cdc_source"`
}

// MarshalJSON writes the event in the form every transport and payload uses.
// Data is passed through as recorded (compacted, digits untouched). It fails
// when Data or Before is not JSON.
func (e *Event) MarshalJSON() ([]byte, error) {
	changes, err := e.Changes()
	if err != nil {
		return nil, err
	}
	return json.Marshal(wireEvent{
		ID: e.ID, EventType: string(e.Operation), EntityType: e.EntityType,
		EntityID: orNull(e.EntityID), Data: e.Data, Changes: changes,
		UserID: orNull(e.UserID), TenantID: orNull(e.TenantID),
		Timestamp: e.Timestamp.UTC(), DurationMS: e.DurationMS, Seq: e.Seq,
		ActorType: orNull(e.ActorType), ActingFor: orNull(e.ActingFor),
		SchemaVersion: orNull(e.SchemaVersion), CDCSource: orNull(e.CDCSource),
	})
}

// UnmarshalJSON reads what MarshalJSON wrote. Keys it does not know are
// ignored, so that a newer sender can be read. The before-image of an UPDATE is
// rebuilt from data and changes; a field that was absent before reads as null.
func (e *Event) UnmarshalJSON(b []byte) error {
	var w wireEvent
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	if err := dec.Decode(&w); err != nil {
		return fmt.Errorf("decode event: %w", err)
	}
	op, err := ParseOperation(w.EventType)
	if err != nil {
		return fmt.Errorf("decode event %q: %w", w.ID, err)
	}
	if w.ID == "" {
		return errors.New("decode event: id is missing")
	}
	if string(w.Data) == "null" {
		w.Data = nil
	}
	before, err := rebuildBefore(op, w.Data, w.Changes)
	if err != nil {
		return fmt.Errorf("decode event %q: %w", w.ID, err)
	}
	*e = Event{
		ID: w.ID, Operation: op, EntityType: w.EntityType, EntityID: orEmpty(w.EntityID),
		Data: w.Data, Before: before, UserID: orEmpty(w.UserID), TenantID: orEmpty(w.TenantID),
		Timestamp: w.Timestamp, DurationMS: w.DurationMS, Seq: w.Seq,
		ActorType: orEmpty(w.ActorType), ActingFor: orEmpty(w.ActingFor),
		SchemaVersion: orEmpty(w.SchemaVersion), CDCSource: orEmpty(w.CDCSource),
	}
	return nil
}

func rebuildBefore(op Operation, data json.RawMessage, changes Changes) (json.RawMessage, error) {
	if op != Update || changes == nil {
		return nil, nil
	}
	after, err := decodeObject(data)
	if err != nil {
		return nil, err
	}
	before := make(map[string]any, len(after))
	maps.Copy(before, after)
	for field, c := range changes {
		before[field] = c.Old
	}
	return json.Marshal(before)
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

func orEmpty(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
