package postgres

import (
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/envelope"
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
	reason, err                 string
	action                      int32
	runAt                       pgtype.Timestamptz
	envelope.Documents

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
	redrives                      int32
	editedAt                      pgtype.Timestamptz
	errorPrint                    string
}

// row encodes d as what stands in state.
func (e encoding) row(d *observer.Delivery, state observer.State) (*row, error) {
	r := &row{
		state: string(state), observer: e.encode(d.Observer), action: int32(d.Action), actionType: e.encode(d.ActionType), //nolint:gosec // an index
		reason: e.encode(string(d.Reason)), err: e.encode(d.Error), runAt: dueTime(d.RunAt),
		ordering: e.encode(string(d.Order)), blockWhenDead: d.BlockWhenDead,
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
	id, entityType, entityID := envelope.Subject(d)
	r.eventID, r.entityType, r.entityID = e.encode(id), e.encode(entityType), e.encode(entityID)
	docs, err := envelope.Encode[exact](d)
	r.Documents = docs.Map(e.encode)
	return r, err
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
		&r.err, &r.Attempts, &r.Request, &r.Event, &r.Malformed, &r.Data, &r.Before,
		&d.Queue, &d.Endpoint, &d.Priority, &r.ordering, &d.BlockWhenDead,
		&r.Prints, &d.Redrives, &r.editedAt,
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
	envelope.Decode[exact](&d, r.Documents, decode)
	return &d, nil
}

// scanAll reads rows to their end.
func scanAll(rows pgx.Rows) ([]*observer.Delivery, error) {
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*observer.Delivery, error) { return scan(row) })
}
