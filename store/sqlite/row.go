package sqlite

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	observer "github.com/fraiseql/observer"
)

// columns is what scan reads, in its order.
const columns = `key, state, observer, action, action_type, reason, run_at, created_at, updated_at,
    lease_owner, lease_until, error, attempts, request, event, malformed, data, before`

// row is a delivery as it is stored.
type row struct {
	state, observer, actionType, reason, err, attempts string

	action int
	runAt  int64
	// request, data and before are kept byte for byte. data is the Data of the
	// event or the Raw of the malformed entry, before the before-image: the JSON
	// form of an event carries changes instead, which lose how a number was
	// written and whether a field was absent or null. event and malformed are
	// everything else, as JSON.
	request, event, malformed, data, before sql.NullString
}

func encode(d *observer.Delivery) (row, error) {
	if d.State != observer.Scheduled && d.State != observer.Dead {
		return row{}, fmt.Errorf("the state is %q, want %q or %q", d.State, observer.Scheduled, observer.Dead)
	}
	r := row{
		state: string(d.State), observer: d.Observer, action: d.Action, actionType: d.ActionType,
		reason: string(d.Reason), err: d.Error, attempts: "[]", runAt: micros(d.RunAt), request: nullable(d.Request),
	}
	var errs [3]error
	if len(d.Attempts) > 0 {
		var text sql.NullString
		text, errs[0] = encodeJSON(d.Attempts)
		r.attempts = text.String
	}
	if d.Event != nil {
		r.event, errs[1] = encodeJSON(newEnvelope(d.Event))
		r.data, r.before = nullable(d.Event.Data), nullable(d.Event.Before)
	}
	if m := d.Malformed; m != nil {
		r.malformed, errs[2] = encodeJSON(newMalformedEnvelope(m))
		r.data = nullable(m.Raw)
	}
	return r, errors.Join(errs[:]...)
}

func nullable(raw json.RawMessage) sql.NullString {
	return sql.NullString{String: string(raw), Valid: len(raw) > 0}
}

func raw(s sql.NullString) json.RawMessage {
	if !s.Valid {
		return nil
	}
	return json.RawMessage(s.String)
}

func encodeJSON(v any) (sql.NullString, error) {
	b, err := json.Marshal(v)
	return sql.NullString{String: string(b), Valid: err == nil}, err
}

// scanner is a *sql.Row or *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

func (s *Store) scan(rows scanner) (*observer.Delivery, error) {
	var r row
	var d observer.Delivery
	var created, updated, leaseUntil int64
	var leaseOwner string
	err := rows.Scan(&d.Key, &r.state, &r.observer, &r.action, &r.actionType, &r.reason, &r.runAt, &created, &updated,
		&leaseOwner, &leaseUntil, &r.err, &r.attempts, &r.request, &r.event, &r.malformed, &r.data, &r.before)
	if err != nil {
		return nil, err
	}
	d.State, d.Observer, d.Action, d.ActionType = observer.State(r.state), r.observer, r.action, r.actionType
	d.Reason, d.Error, d.RunAt = observer.Reason(r.reason), r.err, fromMicros(r.runAt)
	d.CreatedAt, d.UpdatedAt = fromMicros(created), fromMicros(updated)
	if leaseUntil > micros(s.now()) {
		d.LeaseOwner, d.LeaseUntil = leaseOwner, fromMicros(leaseUntil)
	}
	r.decodeInto(&d)
	return &d, nil
}

// scanAll reads and closes rows.
func (s *Store) scanAll(rows *sql.Rows) ([]*observer.Delivery, error) {
	defer rows.Close() //nolint:errcheck // Err below reports what matters
	var list []*observer.Delivery
	for rows.Next() {
		d, err := s.scan(rows)
		if err != nil {
			return nil, err
		}
		list = append(list, d)
	}
	return list, rows.Err()
}

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
