package sqlite

import (
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	observer "github.com/fraiseql/observer"
)

// columns is what scan reads, in its order.
const columns = `key, state, observer, action, action_type, reason, run_at, created_at, updated_at,
    lease_owner, lease_until, claims, claimed_at, lost_at, queue, endpoint, priority, ordering, block_when_dead,
    redrives, edited_at, prints, error, attempts, request, event, malformed, data, before`

// row is a delivery as it is stored.
type row struct {
	state, observer, actionType, reason, err, attempts string

	action int
	runAt  int64

	queue, endpoint, ordering string

	priority, redrives    int
	editedAt              int64
	blockWhenDead         bool
	lane, eventID         string
	entityType, entityID  string
	blocks, blocksQueued  bool
	errorPrint            string
	leaseOwner            string
	leaseUntil, claimedAt int64
	lostAt                int64
	claims                int
	// prints is a JSON array, NULL when unknown.
	prints sql.NullString
	// request, data and before are kept byte for byte. data is the Data of the
	// event or the Raw of the malformed entry, before the before-image: the JSON
	// form of an event carries changes instead, which lose how a number was
	// written and whether a field was absent or null. event and malformed are
	// everything else, as JSON.
	request, event, malformed, data, before sql.NullString
}

// encode is d as a row that nobody has claimed.
func encode(d *observer.Delivery) (row, error) {
	r := row{
		state: string(d.State), observer: d.Observer, action: d.Action, actionType: d.ActionType,
		reason: string(d.Reason), err: d.Error, errorPrint: observer.Fingerprint(d.Error), attempts: "[]",
		runAt: micros(d.RunAt), request: nullable(d.Request), queue: d.Queue, endpoint: d.Endpoint,
		priority: d.Priority, ordering: string(d.Order), blockWhenDead: d.BlockWhenDead,
		redrives: d.Redrives, editedAt: micros(d.EditedAt),
	}
	r.encodeLane(d)
	var errs [4]error
	if len(d.Attempts) > 0 {
		var text sql.NullString
		text, errs[0] = encodeJSON(d.Attempts)
		r.attempts = text.String
	}
	if d.Event != nil {
		r.eventID, r.entityType, r.entityID = d.Event.ID, d.Event.EntityType, d.Event.EntityID
		r.event, errs[1] = encodeJSON(newEnvelope(d.Event))
		r.data, r.before = nullable(d.Event.Data), nullable(d.Event.Before)
	} else if m := d.Malformed; m != nil {
		r.eventID, r.entityType, r.entityID = m.ID, m.EntityType, m.EntityID
	}
	if m := d.Malformed; m != nil {
		r.malformed, errs[2] = encodeJSON(newMalformedEnvelope(m))
		r.data = nullable(m.Raw)
	}
	if d.Prints != nil {
		r.prints, errs[3] = encodeJSON(d.Prints)
	}
	return r, errors.Join(errs[:]...)
}

// encodeLane keeps with the row whether it blocks its lane, now and once it is
// queued, so that statements need not know the rules.
func (r *row) encodeLane(d *observer.Delivery) {
	if r.lane = d.Lane(); r.lane == "" {
		return
	}
	queued := *d
	queued.State = observer.Queued
	r.blocks, r.blocksQueued = d.Blocks(), queued.Blocks()
}

// park has the row wait behind another of its lane.
func (r *row) park() { r.state, r.blocks = string(observer.Parked), true }

// args are the values of the columns in [stored], and whether workers claim it.
func (r *row) args() []any {
	return []any{
		r.state, r.observer, r.action, r.actionType, r.reason, r.runAt, r.queue, r.endpoint, r.priority, r.ordering,
		r.blockWhenDead, r.lane, r.blocks, r.blocksQueued, r.eventID, r.entityType, r.entityID, r.redrives,
		r.editedAt, r.errorPrint, r.prints, r.err, r.attempts, r.request, r.event, r.malformed, r.data, r.before,
		cmp.Or(r.priority, observer.DefaultPriority), observer.State(r.state).Due(),
	}
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

// scan reads a row as everybody sees it at a time: with a lease that runs it is
// running, without one all claims since the last outcome are lost.
func scan(rows scanner, now time.Time) (*observer.Delivery, error) {
	var r row
	var d observer.Delivery
	var created, updated int64
	err := rows.Scan(&d.Key, &r.state, &r.observer, &r.action, &r.actionType, &r.reason, &r.runAt, &created, &updated,
		&r.leaseOwner, &r.leaseUntil, &r.claims, &r.claimedAt, &r.lostAt, &r.queue, &r.endpoint, &r.priority, &r.ordering,
		&r.blockWhenDead, &r.redrives, &r.editedAt, &r.prints, &r.err, &r.attempts, &r.request, &r.event, &r.malformed,
		&r.data, &r.before)
	if err != nil {
		return nil, err
	}
	d.State, d.Observer, d.Action, d.ActionType = observer.State(r.state), r.observer, r.action, r.actionType
	d.Reason, d.Error, d.RunAt = observer.Reason(r.reason), r.err, fromMicros(r.runAt)
	d.Queue, d.Endpoint, d.Priority = r.queue, r.endpoint, r.priority
	d.Order, d.BlockWhenDead = observer.Order(r.ordering), r.blockWhenDead
	d.Redrives, d.EditedAt = r.redrives, fromMicros(r.editedAt)
	d.CreatedAt, d.UpdatedAt = fromMicros(created), fromMicros(updated)
	if r.leaseUntil > micros(now) {
		d.ClaimedFrom, d.State, d.ClaimedAt = d.State, observer.Running, fromMicros(r.claimedAt)
		d.LeaseOwner, d.LeaseUntil = r.leaseOwner, fromMicros(r.leaseUntil)
		d.Lost, d.LostAt = r.claims-1, fromMicros(r.lostAt)
	} else {
		d.Lost, d.LostAt = r.claims, fromMicros(r.claimedAt)
	}
	r.decodeInto(&d)
	return &d, nil
}

// scanAll reads and closes rows.
func scanAll(rows *sql.Rows, now time.Time) ([]*observer.Delivery, error) {
	var list []*observer.Delivery
	err := eachRow(rows, func(rows *sql.Rows) error {
		d, err := scan(rows, now)
		list = append(list, d)
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, nil
}
