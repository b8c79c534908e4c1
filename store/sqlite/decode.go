package sqlite

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	observer "github.com/fraiseql/observer"
)

// decodeInto decodes the JSON of a row. What cannot be decoded is kept where a
// person sees it, and Error says so: one damaged row must not hide the others.
func (r *row) decodeInto(d *observer.Delivery) {
	if err := json.Unmarshal([]byte(r.attempts), &d.Attempts); err != nil {
		d.Attempts = nil
		note(d, "the stored attempts are damaged (%v): %.200s", err, r.attempts)
	}
	if len(d.Attempts) == 0 {
		d.Attempts = nil
	}
	if err := r.decodePrints(d); err != nil {
		note(d, "the stored fingerprints of its observer are damaged (%v): %.200s", err, r.prints.String)
	}
	d.Request = raw(r.request)
	if r.request.Valid && !json.Valid(d.Request) {
		d.Request = quoted(r.request.String)
		note(d, "the stored request is not JSON")
	}
	if err := r.decodeEntry(d); err != nil {
		d.Event, d.Malformed = nil, r.salvage(d, err)
		note(d, "the stored event is damaged (%v)", err)
	}
}

func (r *row) decodePrints(d *observer.Delivery) error {
	if !r.prints.Valid {
		return nil
	}
	err := json.Unmarshal([]byte(r.prints.String), &d.Prints)
	if err != nil {
		d.Prints = nil
	}
	return err
}

func (r *row) decodeEntry(d *observer.Delivery) error {
	if r.malformed.Valid {
		var m malformedEnvelope
		if err := json.Unmarshal([]byte(r.malformed.String), &m); err != nil {
			return err
		}
		d.Malformed = m.malformed(raw(r.data))
	}
	if r.event.Valid {
		var e envelope
		if err := json.Unmarshal([]byte(r.event.String), &e); err != nil {
			return err
		}
		d.Event = e.event(raw(r.data), raw(r.before))
	}
	return nil
}

// salvage presents an event that cannot be decoded as a malformed entry: all of
// its text survives reading and storing again.
func (r *row) salvage(d *observer.Delivery, cause error) *observer.Malformed {
	parts := map[string]string{}
	for name, text := range map[string]sql.NullString{"event": r.event, "malformed": r.malformed, "data": r.data, "before": r.before} {
		if text.Valid {
			parts[name] = text.String
		}
	}
	text, _ := json.Marshal(parts) // strings only: it cannot fail
	return &observer.Malformed{
		ID:     strings.TrimSuffix(d.Key, "/"+d.Observer+"/"+strconv.Itoa(d.Action)),
		Raw:    text,
		Reason: fmt.Sprintf("its row in the state store is damaged: %v", cause),
	}
}

func quoted(text string) json.RawMessage {
	b, _ := json.Marshal(text) // a string: it cannot fail
	return b
}

func note(d *observer.Delivery, format string, args ...any) {
	if d.Error != "" {
		d.Error += "; "
	}
	d.Error += fmt.Sprintf(format, args...)
}
