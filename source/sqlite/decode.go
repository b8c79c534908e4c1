package sqlite

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fraiseql/observer"
)

// row is one row as the driver gives it: nil, int64, float64, string or
// []byte, by the storage class of the value and not by the declared type.
type row struct {
	pk                                           int64
	id, objectType, modification, createdAt      any
	objectID, data, before                       any
	tenantID, fkContact, seq, durationMS         any
	actorType, actingFor, schemaVersion, extraMD any
	trace                                        any
}

// dest is in the order of requiredColumns and optionalColumns.
func (r *row) dest() []any {
	return []any{
		&r.pk, &r.id, &r.objectType, &r.modification, &r.createdAt, &r.objectID, &r.data, &r.before,
		&r.tenantID, &r.fkContact, &r.seq, &r.durationMS, &r.actorType, &r.actingFor, &r.schemaVersion, &r.extraMD,
		&r.trace,
	}
}

func (r *row) place(epoch string) place {
	p := place{epoch: epoch, pk: r.pk}
	if id, ok := r.id.(string); ok && id != "" {
		p.mark = mark(id)
	}
	return p
}

func (r *row) size() int { return sizeOf(r.data) + sizeOf(r.before) + 256 }

func sizeOf(v any) int {
	switch v := v.(type) {
	case string:
		return len(v)
	case []byte:
		return len(v)
	}
	return 0
}

// malformedPrefix is reserved, so that the name given to a row without an id is
// never the id of an event.
const malformedPrefix = "malformed:"

// malformedID names a row that has no readable id. The digest keeps apart two
// rows that had the same key before and after a backup was restored.
func malformedID(source string, pk int64, raw []byte) string {
	return malformedPrefix + source + ":" + strconv.FormatInt(pk, 10) + ":" + mark(string(raw))
}

// decode makes a message of a row. A malformed one still lacks its Raw, and its
// ID where the row has none.
func (d *decoder) decode(r *row, p place) observer.Message {
	pos := p.position()
	e, err := r.event()
	if err == nil {
		return observer.Message{Event: e, Position: pos}
	}
	m := &observer.Malformed{Reason: err.Error(), Source: d.source, Position: pos}
	if id, err := eventID(r.id); err == nil {
		m.ID = id
	}
	m.EntityType = readable(r.objectType)
	m.EntityID = readable(r.objectID)
	return observer.Message{Malformed: m, Position: pos}
}

// event gives the first reason why the row is not an event.
func (r *row) event() (*observer.Event, error) {
	e := &observer.Event{}
	for _, step := range []func(*observer.Event) error{r.identity, r.images, r.envelope} {
		if err := step(e); err != nil {
			return nil, err
		}
	}
	return e, nil
}

func (r *row) identity(e *observer.Event) (err error) {
	if e.ID, err = eventID(r.id); err != nil {
		return err
	}
	verb, err := required("modification_type", r.modification)
	if err != nil {
		return err
	}
	if e.Operation, err = observer.ParseOperation(verb); err != nil {
		return err
	}
	if e.EntityType, err = required("object_type", r.objectType); err != nil {
		return err
	}
	if r.objectID == nil && e.Operation != observer.Custom {
		return fmt.Errorf("object_id is NULL on %s", e.Operation)
	}
	if e.EntityID, err = optional("object_id", r.objectID); err != nil {
		return err
	}
	e.Timestamp, err = parseTime(r.createdAt)
	return err
}

func (r *row) images(e *observer.Event) error {
	data, err := image("object_data", r.data)
	if err != nil {
		return err
	}
	before, err := image("object_data_before", r.before)
	if err != nil {
		return err
	}
	switch e.Operation {
	case observer.Delete:
		if data == nil {
			data = before
		}
	case observer.Update, observer.Custom:
		e.Before = before
	case observer.Insert: // there was nothing before
	}
	e.Data = data
	return nil
}

func (r *row) envelope(e *observer.Event) error {
	texts := []struct {
		column string
		value  any
		to     *string
	}{
		{"tenant_id", r.tenantID, &e.TenantID},
		{"fk_contact", r.fkContact, &e.UserID},
		{"actor_type", r.actorType, &e.ActorType},
		{"acting_for", r.actingFor, &e.ActingFor},
		{"schema_version", r.schemaVersion, &e.SchemaVersion},
	}
	for _, t := range texts {
		var err error
		if *t.to, err = optional(t.column, t.value); err != nil {
			return err
		}
	}
	var err error
	if e.Seq, err = integer("seq", r.seq); err != nil {
		return err
	}
	if e.DurationMS, err = integer("duration_ms", r.durationMS); err != nil {
		return err
	}
	e.CDCSource = cdcSource(r.extraMD)
	e.TraceParent, e.TraceState = traceContext(r.trace)
	return nil
}

// cdcSource reads the one key of extra_metadata that is part of an event. The
// rest is the producer's own: what cannot be read there does no harm.
func cdcSource(v any) string {
	text, ok := v.(string)
	switch {
	case !ok:
		return ""
	case text == capturedMetadata:
		return capturedSource
	}
	var md struct {
		CDCSource string `json:"cdc_source"`
	}
	if json.Unmarshal([]byte(text), &md) != nil {
		return ""
	}
	return md.CDCSource
}

// traceContext reads trace_context. What cannot be read there does no harm.
func traceContext(v any) (parent, state string) {
	text, ok := v.(string)
	if !ok {
		return "", ""
	}
	var trace struct {
		Parent string `json:"traceparent"`
		State  string `json:"tracestate"`
	}
	if json.Unmarshal([]byte(text), &trace) != nil {
		return "", ""
	}
	return trace.Parent, trace.State
}

func eventID(v any) (string, error) {
	id, err := required("id", v)
	if err == nil && strings.HasPrefix(id, malformedPrefix) {
		return "", fmt.Errorf("id begins with the reserved word %q", malformedPrefix)
	}
	return id, err
}

func required(column string, v any) (string, error) {
	if v == nil {
		return "", errors.New(column + " is NULL")
	}
	text, err := optional(column, v)
	if err == nil && text == "" {
		return "", errors.New(column + " is empty")
	}
	return text, err
}

// optional reads a column as text; NULL is "".
func optional(column string, v any) (string, error) {
	switch v := v.(type) {
	case nil:
		return "", nil
	case string:
		if !utf8.ValidString(v) {
			return "", errors.New(column + " is not valid UTF-8")
		}
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	}
	return "", errors.New(column + " is a blob, not text")
}

// readable is the text of a column, "" where it has none.
func readable(v any) string {
	text, err := optional("", v)
	if err != nil {
		return ""
	}
	return text
}

func integer(column string, v any) (*int64, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil //nolint:nilnil // NULL is a value like any other here
	case int64:
		return &v, nil
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
			n := int64(v)
			return &n, nil
		}
	case string:
		if n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64); err == nil {
			return &n, nil
		}
	}
	return nil, fmt.Errorf("%s is not an integer: %s", column, shown(v))
}

// image checks that a column holds JSON. SQLite text may hold bytes that are
// not UTF-8, which JSON may not: they become U+FFFD, as in every browser.
func image(column string, v any) (json.RawMessage, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case string:
		raw := json.RawMessage(strings.ToValidUTF8(v, "\uFFFD"))
		if err := checkJSON(raw); err != nil {
			return nil, fmt.Errorf("%s is not JSON: %w", column, err)
		}
		if string(raw) == "null" {
			return nil, nil
		}
		return raw, nil
	case []byte:
		return nil, errors.New(column + " is a blob, not JSON text")
	}
	return nil, fmt.Errorf("%s is a number, not JSON text: %s", column, shown(v))
}

func checkJSON(raw json.RawMessage) error {
	if json.Valid(raw) {
		return nil
	}
	var v json.RawMessage // only decoding says what is wrong, and where
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	return errors.New("invalid")
}

// timeLayouts are the forms applications write; a time without a zone is UTC,
// as SQLite's own functions have it.
func timeLayouts() []string {
	return []string{
		time.RFC3339Nano,
		"2006-01-02 15:04:05.999999999Z07:00",
		"2006-01-02 15:04:05.999999999",
		"2006-01-02T15:04:05.999999999",
		"2006-01-02 15:04:05.999999999 -0700 MST", // what Go's driver writes for a time.Time
		"2006-01-02 15:04:05.999999999 -0700",
		"2006-01-02T15:04:05.999999999Z0700",
		"2006-01-02 15:04",
		"2006-01-02T15:04",
		"2006-01-02",
	}
}

func parseTime(v any) (time.Time, error) {
	text, ok := v.(string)
	if !ok {
		if v == nil {
			return time.Time{}, errors.New("created_at is NULL")
		}
		return time.Time{}, fmt.Errorf("created_at is not a time in text form: %s", shown(v))
	}
	text = strings.TrimSpace(text)
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return checkYear(t.UTC(), v)
	}
	text, _, _ = strings.Cut(text, " m=") // Go's monotonic reading
	for _, layout := range timeLayouts() {
		if t, err := time.Parse(layout, text); err == nil {
			return checkYear(t.UTC(), v)
		}
	}
	return time.Time{}, fmt.Errorf("created_at is not a time: %s", shown(v))
}

// checkYear refuses what cannot be written as RFC 3339 any more.
func checkYear(t time.Time, v any) (time.Time, error) {
	if t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, fmt.Errorf("created_at is out of range: %s", shown(v))
	}
	return t, nil
}
