package postgres

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

// columns is what scan reads, in its order. Its $1 is the clock.
const columns = `coalesce(full_key, key), state, observer, action, action_type, reason, run_at, created_at, updated_at,
    lease_owner, CASE WHEN lease_until > ` + clock + ` THEN lease_until END, claims, claimed_at, lost_at,
    error, attempts, request, event, malformed, data, before,
    coalesce(full_queue, queue), coalesce(full_endpoint, endpoint), priority, ordering, block_when_dead,
    prints, redrives, edited_at`

// row is a delivery as it is stored, without what the store sets by itself.
type row struct {
	key                         string
	fullKey                     *string
	state, observer, actionType string
	reason, err, attempts       string
	action                      int32
	runAt                       pgtype.Timestamptz
	// request, data and before are kept byte for byte. data is the Data of the
	// event or the Raw of the malformed entry, before the before-image: the JSON
	// form of an event carries changes instead, which lose how a number was
	// written and whether a field was absent or null. event and malformed are
	// everything else, as JSON.
	request, event, malformed, data, before *string

	band          bandKey
	fullQueue     *string
	fullEndpoint  *string
	ordering      string
	blockWhenDead bool
	// lane is "" when the delivery has none. blocks is about its state; what is
	// parked always blocks.
	lane                          string
	blocks                        bool
	eventID, entityType, entityID string
	prints                        *string
	redrives                      int32
	editedAt                      pgtype.Timestamptz
	errorPrint                    string
}

// row encodes d as what stands in state.
func (e encoding) row(d *observer.Delivery, state observer.State) (*row, error) {
	r := &row{
		state: string(state), observer: e.encode(d.Observer), action: int32(d.Action), actionType: e.encode(d.ActionType), //nolint:gosec // an index
		reason: e.encode(string(d.Reason)), err: e.encode(d.Error), attempts: "[]", runAt: dueTime(d.RunAt),
		request: e.nullable(d.Request), ordering: e.encode(string(d.Order)), blockWhenDead: d.BlockWhenDead,
		redrives: int32(d.Redrives), errorPrint: observer.Fingerprint(d.Error), //nolint:gosec // a small number
	}
	r.key, r.fullKey = e.key(d.Key)
	r.band.queue, r.fullQueue = e.name(d.Queue)
	r.band.endpoint, r.fullEndpoint = e.name(d.Endpoint)
	r.band.priority = int32(d.Priority) //nolint:gosec // 1 to 4
	if !d.EditedAt.IsZero() {
		r.editedAt = dueTime(d.EditedAt)
	}
	if lane := d.Lane(); lane != "" {
		stored := *d
		stored.State = state
		r.lane, r.blocks = e.lane(lane), stored.Blocks()
	}
	return r, e.documents(r, d)
}

// documents encodes what is JSON.
func (e encoding) documents(r *row, d *observer.Delivery) error {
	var errs [4]error
	if len(d.Attempts) > 0 {
		var text *string
		if text, errs[0] = e.json(d.Attempts); text != nil {
			r.attempts = *text
		}
	}
	if len(d.Prints) > 0 {
		r.prints, errs[1] = e.json(d.Prints)
	}
	if d.Event != nil {
		r.event, errs[2] = e.json(newEnvelope(d.Event))
		r.data, r.before = e.nullable(d.Event.Data), e.nullable(d.Event.Before)
		r.eventID, r.entityType, r.entityID = e.encode(d.Event.ID), e.encode(d.Event.EntityType), e.encode(d.Event.EntityID)
	}
	if m := d.Malformed; m != nil {
		r.malformed, errs[3] = e.json(newMalformedEnvelope(m))
		r.data = e.nullable(m.Raw)
		if d.Event == nil {
			r.eventID, r.entityType, r.entityID = e.encode(m.ID), e.encode(m.EntityType), e.encode(m.EntityID)
		}
	}
	return errors.Join(errs[:]...)
}

// dueTime is a due time as it is stored. What has none is due since it was
// stored, and what is due beyond the calendar of PostgreSQL never is.
func dueTime(t time.Time) pgtype.Timestamptz {
	switch {
	case t.IsZero(), t.Year() < -4000:
		return pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.NegativeInfinity}
	case t.Year() > 200_000:
		return pgtype.Timestamptz{Valid: true, InfinityModifier: pgtype.Infinity}
	}
	return pgtype.Timestamptz{Valid: true, Time: t}
}

// timeOf is a stored time in UTC: the zero time for none.
func timeOf(t pgtype.Timestamptz) time.Time {
	switch {
	case !t.Valid, t.InfinityModifier == pgtype.NegativeInfinity:
		return time.Time{}
	case t.InfinityModifier == pgtype.Infinity:
		return time.Date(200_000, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	return t.Time.UTC()
}

// scan reads columns, and then what more there is.
func scan(rows pgx.Row, more ...any) (*observer.Delivery, error) {
	var r row
	var d observer.Delivery
	var created, updated, leaseUntil, claimed, lost pgtype.Timestamptz
	var leaseOwner string
	var claims int
	err := rows.Scan(append([]any{
		&d.Key, &r.state, &r.observer, &d.Action, &r.actionType, &r.reason, &r.runAt, &created, &updated,
		&leaseOwner, &leaseUntil, &claims, &claimed, &lost,
		&r.err, &r.attempts, &r.request, &r.event, &r.malformed, &r.data, &r.before,
		&d.Queue, &d.Endpoint, &d.Priority, &r.ordering, &d.BlockWhenDead,
		&r.prints, &d.Redrives, &r.editedAt,
	}, more...)...)
	if err != nil {
		return nil, err
	}
	d.Key, d.State = decode(d.Key), observer.State(r.state)
	d.Observer, d.ActionType = decode(r.observer), decode(r.actionType)
	d.Queue, d.Endpoint, d.Order = decode(d.Queue), decode(d.Endpoint), observer.Order(decode(r.ordering))
	d.Reason, d.Error, d.RunAt = observer.Reason(decode(r.reason)), decode(r.err), timeOf(r.runAt)
	d.CreatedAt, d.UpdatedAt, d.EditedAt = timeOf(created), timeOf(updated), timeOf(r.editedAt)
	if leaseUntil.Valid {
		d.LeaseOwner, d.LeaseUntil = decode(leaseOwner), timeOf(leaseUntil)
		d.State, d.ClaimedFrom, d.ClaimedAt = observer.Running, d.State, timeOf(claimed)
		d.Lost, d.LostAt = max(claims-1, 0), timeOf(lost)
	} else {
		// Without a running lease all claims since the last outcome are lost.
		d.Lost, d.LostAt = claims, timeOf(claimed)
	}
	r.decodeInto(&d)
	return &d, nil
}

// scanAll reads rows to their end.
func scanAll(rows pgx.Rows) ([]*observer.Delivery, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*observer.Delivery, error) { return scan(row) })
}

func raw(stored *string) json.RawMessage {
	if stored == nil {
		return nil
	}
	return json.RawMessage(decode(*stored))
}

// decodeInto decodes the JSON of a row. What cannot be decoded is kept where a
// person sees it, and Error says so: one damaged row must not hide the others.
func (r *row) decodeInto(d *observer.Delivery) {
	if err := json.Unmarshal([]byte(decode(r.attempts)), &d.Attempts); err != nil {
		d.Attempts = nil
		note(d, "the stored attempts are damaged (%v): %.200s", err, r.attempts)
	}
	if len(d.Attempts) == 0 {
		d.Attempts = nil
	}
	if r.prints != nil {
		if err := json.Unmarshal([]byte(decode(*r.prints)), &d.Prints); err != nil {
			d.Prints = nil // the action is then found by its index
		}
	}
	d.Request = raw(r.request)
	if r.request != nil && !json.Valid(d.Request) {
		d.Request = quoted(string(d.Request))
		note(d, "the stored request is not JSON")
	}
	if err := r.decodeEntry(d); err != nil {
		d.Event, d.Malformed = nil, r.salvage(d, err)
		note(d, "the stored event is damaged (%v)", err)
	}
}

func (r *row) decodeEntry(d *observer.Delivery) error {
	if r.malformed != nil {
		var m malformedEnvelope
		if err := json.Unmarshal([]byte(decode(*r.malformed)), &m); err != nil {
			return err
		}
		d.Malformed = m.malformed(raw(r.data))
	}
	if r.event != nil {
		var e envelope
		if err := json.Unmarshal([]byte(decode(*r.event)), &e); err != nil {
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
	for name, text := range map[string]*string{"event": r.event, "malformed": r.malformed, "data": r.data, "before": r.before} {
		if text != nil {
			parts[name] = *text
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
