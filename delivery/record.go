package delivery

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

// exact is a text that keeps every byte in JSON: one that is not UTF-8 is
// written as an object.
type exact string

// inBase64 is how a text is written that is not UTF-8.
type inBase64 struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON never loses a byte.
func (t exact) MarshalJSON() ([]byte, error) {
	if !utf8.ValidString(string(t)) {
		return json.Marshal(inBase64{[]byte(t)})
	}
	return unescaped(string(t))
}

// unescaped is v as JSON in which <, > and & stand as they are.
func unescaped(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *exact) UnmarshalJSON(b []byte) error {
	if len(b) > 0 && b[0] == '{' {
		var w inBase64
		err := json.Unmarshal(b, &w)
		*t = exact(w.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// raw is something that should be JSON. It is written as the JSON it is where
// that keeps every byte, for people and their tools, else as a text.
type raw json.RawMessage

type rawForm struct {
	JSON json.RawMessage `json:"json,omitempty"`
	Text *exact          `json:"text,omitempty"`
}

// MarshalJSON never loses a byte.
func (r raw) MarshalJSON() ([]byte, error) {
	var compact bytes.Buffer
	if utf8.Valid(r) && json.Compact(&compact, r) == nil && bytes.Equal(compact.Bytes(), r) {
		return append(append([]byte(`{"json":`), r...), '}'), nil
	}
	text := exact(r)
	return unescaped(rawForm{Text: &text})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (r *raw) UnmarshalJSON(b []byte) error {
	var form rawForm
	err := json.Unmarshal(b, &form)
	switch {
	case err != nil:
		return err
	case form.Text != nil:
		*r = raw(*form.Text)
	default:
		*r = raw(form.JSON)
	}
	return nil
}

// moment is a time of any year, in UTC: RFC 3339 where that can write it, else
// seconds and nanoseconds since 1970.
type moment time.Time

func (m moment) IsZero() bool { return time.Time(m).IsZero() }

// MarshalText never loses a nanosecond.
func (m moment) MarshalText() ([]byte, error) {
	t := time.Time(m).UTC()
	if t.Year() < 0 || t.Year() > 9999 {
		return fmt.Appendf(nil, "%d:%d", t.Unix(), t.Nanosecond()), nil
	}
	return t.AppendFormat(nil, time.RFC3339Nano), nil
}

// UnmarshalText reads what MarshalText wrote.
func (m *moment) UnmarshalText(b []byte) error {
	if s, ns, found := strings.Cut(string(b), ":"); found && !strings.Contains(s, "T") {
		seconds, err := strconv.ParseInt(s, 10, 64)
		nanoseconds, err2 := strconv.ParseInt(ns, 10, 64)
		*m = moment(time.Unix(seconds, nanoseconds).UTC())
		return errors.Join(err, err2)
	}
	t, err := time.Parse(time.RFC3339Nano, string(b))
	*m = moment(t.UTC())
	return err
}

// record is a delivery as one line. Every field of every part of a delivery is
// in it, whatever it holds.
type record struct {
	Key        exact            `json:"key"`
	Event      *eventRecord     `json:"event,omitempty"`
	Malformed  *malformedRecord `json:"malformed,omitempty"`
	Observer   exact            `json:"observer,omitempty"`
	Action     int              `json:"action"`
	ActionType exact            `json:"action_type,omitempty"`
	Prints     []exact          `json:"prints,omitempty"`
	Request    raw              `json:"request,omitempty"`
	Attempts   []attemptRecord  `json:"attempts,omitempty"`

	Queue         exact `json:"queue,omitempty"`
	Endpoint      exact `json:"endpoint,omitempty"`
	Priority      int   `json:"priority,omitempty"`
	Order         exact `json:"order,omitempty"`
	BlockWhenDead bool  `json:"block_when_dead,omitempty"`

	State     exact  `json:"state"`
	Reason    exact  `json:"reason,omitempty"`
	Error     exact  `json:"error,omitempty"`
	RunAt     moment `json:"run_at,omitzero"`
	Redrives  int    `json:"redrives,omitempty"`
	EditedAt  moment `json:"edited_at,omitzero"`
	CreatedAt moment `json:"created_at,omitzero"`
	UpdatedAt moment `json:"updated_at,omitzero"`

	LeaseOwner  exact  `json:"lease_owner,omitempty"`
	LeaseUntil  moment `json:"lease_until,omitzero"`
	ClaimedFrom exact  `json:"claimed_from,omitempty"`
	ClaimedAt   moment `json:"claimed_at,omitzero"`
	Lost        int    `json:"lost,omitempty"`
	LostAt      moment `json:"lost_at,omitzero"`
}

type eventRecord struct {
	ID            exact  `json:"id"`
	EventType     exact  `json:"event_type"`
	EntityType    exact  `json:"entity_type"`
	EntityID      exact  `json:"entity_id,omitempty"`
	Data          raw    `json:"data,omitempty"`
	Before        raw    `json:"before,omitempty"`
	UserID        exact  `json:"user_id,omitempty"`
	TenantID      exact  `json:"tenant_id,omitempty"`
	Timestamp     moment `json:"timestamp,omitzero"`
	DurationMS    *int64 `json:"duration_ms,omitempty"`
	Seq           *int64 `json:"seq,omitempty"`
	ActorType     exact  `json:"actor_type,omitempty"`
	ActingFor     exact  `json:"acting_for,omitempty"`
	SchemaVersion exact  `json:"schema_version,omitempty"`
	CDCSource     exact  `json:"cdc_source,omitempty"`
	TraceParent   exact  `json:"traceparent,omitempty"`
	TraceState    exact  `json:"tracestate,omitempty"`
}

type malformedRecord struct {
	ID         exact `json:"id"`
	EntityType exact `json:"entity_type,omitempty"`
	EntityID   exact `json:"entity_id,omitempty"`
	Raw        raw   `json:"raw,omitempty"`
	Reason     exact `json:"reason,omitempty"`
	Source     exact `json:"source,omitempty"`
	Position   exact `json:"position,omitempty"`
}

type attemptRecord struct {
	Number   int           `json:"number"`
	At       moment        `json:"at,omitzero"`
	Duration time.Duration `json:"duration_ns,omitempty"`
	Status   int           `json:"status,omitempty"`
	Detail   exact         `json:"detail,omitempty"`
	Error    exact         `json:"error,omitempty"`
	Unknown  bool          `json:"unknown,omitempty"`
	Cached   bool          `json:"cached,omitempty"`
	Stack    exact         `json:"stack,omitempty"`
}

func recordOf(d *observer.Delivery) record {
	r := record{
		Key: exact(d.Key), Event: eventRecordOf(d.Event), Malformed: malformedRecordOf(d.Malformed),
		Observer: exact(d.Observer), Action: d.Action, ActionType: exact(d.ActionType), Request: raw(d.Request),
		Queue: exact(d.Queue), Endpoint: exact(d.Endpoint), Priority: d.Priority,
		Order: exact(d.Order), BlockWhenDead: d.BlockWhenDead,
		State: exact(d.State), Reason: exact(d.Reason), Error: exact(d.Error), RunAt: moment(d.RunAt),
		Redrives: d.Redrives, EditedAt: moment(d.EditedAt), CreatedAt: moment(d.CreatedAt), UpdatedAt: moment(d.UpdatedAt),
		LeaseOwner: exact(d.LeaseOwner), LeaseUntil: moment(d.LeaseUntil),
		ClaimedFrom: exact(d.ClaimedFrom), ClaimedAt: moment(d.ClaimedAt), Lost: d.Lost, LostAt: moment(d.LostAt),
	}
	for _, p := range d.Prints {
		r.Prints = append(r.Prints, exact(p))
	}
	for _, a := range d.Attempts {
		r.Attempts = append(r.Attempts, attemptRecord{
			Number: a.Number, At: moment(a.At), Duration: a.Duration, Status: a.Status,
			Detail: exact(a.Detail), Error: exact(a.Error), Unknown: a.Unknown, Cached: a.Cached, Stack: exact(a.Stack),
		})
	}
	return r
}

func eventRecordOf(e *observer.Event) *eventRecord {
	if e == nil {
		return nil
	}
	return &eventRecord{
		ID: exact(e.ID), EventType: exact(e.Operation), EntityType: exact(e.EntityType), EntityID: exact(e.EntityID),
		Data: raw(e.Data), Before: raw(e.Before), UserID: exact(e.UserID), TenantID: exact(e.TenantID),
		Timestamp: moment(e.Timestamp), DurationMS: e.DurationMS, Seq: e.Seq,
		ActorType: exact(e.ActorType), ActingFor: exact(e.ActingFor),
		SchemaVersion: exact(e.SchemaVersion), CDCSource: exact(e.CDCSource),
		TraceParent: exact(e.TraceParent), TraceState: exact(e.TraceState),
	}
}

func malformedRecordOf(m *observer.Malformed) *malformedRecord {
	if m == nil {
		return nil
	}
	return &malformedRecord{
		ID: exact(m.ID), EntityType: exact(m.EntityType), EntityID: exact(m.EntityID), Raw: raw(m.Raw),
		Reason: exact(m.Reason), Source: exact(m.Source), Position: exact(m.Position),
	}
}

func (r *record) delivery() *observer.Delivery {
	d := &observer.Delivery{
		Key: string(r.Key), Event: r.Event.event(), Malformed: r.Malformed.malformed(),
		Observer: string(r.Observer), Action: r.Action, ActionType: string(r.ActionType), Request: json.RawMessage(r.Request),
		Queue: string(r.Queue), Endpoint: string(r.Endpoint), Priority: r.Priority,
		Order: observer.Order(r.Order), BlockWhenDead: r.BlockWhenDead,
		State: observer.State(r.State), Reason: observer.Reason(r.Reason), Error: string(r.Error), RunAt: time.Time(r.RunAt),
		Redrives: r.Redrives, EditedAt: time.Time(r.EditedAt), CreatedAt: time.Time(r.CreatedAt), UpdatedAt: time.Time(r.UpdatedAt),
		LeaseOwner: string(r.LeaseOwner), LeaseUntil: time.Time(r.LeaseUntil),
		ClaimedFrom: observer.State(r.ClaimedFrom), ClaimedAt: time.Time(r.ClaimedAt), Lost: r.Lost, LostAt: time.Time(r.LostAt),
	}
	for _, p := range r.Prints {
		d.Prints = append(d.Prints, string(p))
	}
	for _, a := range r.Attempts {
		d.Attempts = append(d.Attempts, observer.Attempt{
			Number: a.Number, At: time.Time(a.At), Duration: a.Duration, Status: a.Status,
			Detail: string(a.Detail), Error: string(a.Error), Unknown: a.Unknown, Cached: a.Cached, Stack: string(a.Stack),
		})
	}
	return d
}

func (r *eventRecord) event() *observer.Event {
	if r == nil {
		return nil
	}
	return &observer.Event{
		ID: string(r.ID), Operation: observer.Operation(r.EventType),
		EntityType: string(r.EntityType), EntityID: string(r.EntityID),
		Data: json.RawMessage(r.Data), Before: json.RawMessage(r.Before),
		UserID: string(r.UserID), TenantID: string(r.TenantID),
		Timestamp: time.Time(r.Timestamp), DurationMS: r.DurationMS, Seq: r.Seq,
		ActorType: string(r.ActorType), ActingFor: string(r.ActingFor),
		SchemaVersion: string(r.SchemaVersion), CDCSource: string(r.CDCSource),
		TraceParent: string(r.TraceParent), TraceState: string(r.TraceState),
	}
}

func (r *malformedRecord) malformed() *observer.Malformed {
	if r == nil {
		return nil
	}
	return &observer.Malformed{
		ID: string(r.ID), EntityType: string(r.EntityType), EntityID: string(r.EntityID), Raw: json.RawMessage(r.Raw),
		Reason: string(r.Reason), Source: string(r.Source), Position: observer.Position(r.Position),
	}
}
