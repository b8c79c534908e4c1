package observer

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Operation says what happened to the entity.
type Operation string

// The operations an event can carry. CUSTOM stands for an entry that records
// something other than a change of the row (a domain event, an explicit no-op).
const (
	Insert Operation = "INSERT"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
	Custom Operation = "CUSTOM"
)

// Operations lists every operation, in the order they are documented.
func Operations() []Operation { return []Operation{Insert, Update, Delete, Custom} }

// ParseOperation maps the modification_type column of a change log to an
// operation. NOOP and READ are explicit non-changes and become [Custom]. Any
// other word is an error that names it.
func ParseOperation(s string) (Operation, error) {
	switch s {
	case "INSERT", "UPDATE", "DELETE", "CUSTOM":
		return Operation(s), nil
	case "NOOP", "READ":
		return Custom, nil
	}
	return "", fmt.Errorf("unknown modification type %q (want INSERT, UPDATE, DELETE, CUSTOM, NOOP or READ)", s)
}

// Event is one committed change as a change log recorded it. A source fills it
// and nobody changes it afterwards, so any number of goroutines may read it.
// It contains a lock: pass it by pointer.
type Event struct {
	// ID is the identity of the event, a UUID drawn when the change was
	// recorded. It never changes over re-reads, restarts and transports.
	ID string
	// Operation is what happened.
	Operation Operation
	// EntityType is the kind of thing that changed, such as "Order".
	EntityType string
	// EntityID is the key of the entity as text. Composite keys are a JSON
	// array of the parts. It may be empty on a CUSTOM event.
	EntityID string
	// Data is the after-image as JSON, the before-image on DELETE, nil when the
	// log has none. Numbers keep every digit they were recorded with.
	Data json.RawMessage
	// Before is the before-image of an UPDATE, nil when it was not recorded.
	// It travels inside "changes", not as a key of its own.
	Before json.RawMessage
	// UserID and TenantID are who made the change and for which tenant; "" when
	// unknown.
	UserID, TenantID string
	// Timestamp is when the change was recorded, by the database's clock.
	Timestamp time.Time
	// DurationMS is how long the mutation took, in milliseconds; nil when unknown.
	DurationMS *int64
	// Seq is the producer's own sequence; nil when there is none. It is
	// information for receivers: positions do not depend on it.
	Seq *int64
	// ActorType, ActingFor, SchemaVersion and CDCSource are the envelope the
	// producer recorded; "" when absent.
	ActorType, ActingFor, SchemaVersion, CDCSource string
	// TraceParent and TraceState are the W3C trace context of the change; "" when
	// unknown. They travel in headers, not in the JSON form.
	TraceParent, TraceState string

	decode  sync.Once
	fields  map[string]any
	old     map[string]any
	err     error
	compare sync.Once
	changes Changes
}

// Fields is Data decoded, with every number a json.Number. It is decoded once
// and shared: treat it as read-only. A Data that is absent or not an object
// gives an empty map.
func (e *Event) Fields() (map[string]any, error) {
	e.decode.Do(e.decodeImages)
	return e.fields, e.err
}

// Old is the before-image decoded: Before on UPDATE, Data on DELETE. It is nil
// when no before-image was recorded; treat it as read-only.
func (e *Event) Old() (map[string]any, error) {
	e.decode.Do(e.decodeImages)
	return e.old, e.err
}

// Changes compares the two images of an UPDATE. It is nil when no before-image
// was recorded and empty when one was and nothing differs: the two are
// different answers. Operations other than UPDATE have no changes. It is
// computed once and shared: treat it as read-only.
func (e *Event) Changes() (Changes, error) {
	if e.Operation != Update {
		return nil, nil
	}
	e.decode.Do(e.decodeImages)
	if e.err != nil || e.old == nil {
		return nil, e.err
	}
	e.compare.Do(func() { e.changes = diff(e.old, e.fields) })
	return e.changes, nil
}

func (e *Event) decodeImages() {
	e.fields, e.err = decodeObject(e.Data)
	if e.err != nil {
		e.err = fmt.Errorf("decode data of event %s: %w", e.ID, e.err)
		return
	}
	switch {
	case e.Operation == Delete && len(e.Data) > 0:
		e.old = e.fields
	case len(e.Before) > 0:
		if e.old, e.err = decodeObject(e.Before); e.err != nil {
			e.err = fmt.Errorf("decode before-image of event %s: %w", e.ID, e.err)
		}
	}
	if e.fields == nil {
		e.fields = map[string]any{}
	}
}

// decodeObject decodes a JSON object with exact numbers. Absent input and any
// other JSON value give a nil map.
func decodeObject(raw json.RawMessage) (map[string]any, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("more than one JSON value")
	}
	m, _ := v.(map[string]any)
	return m, nil
}
