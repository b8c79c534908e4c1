package sqlite

import (
	"cmp"
	"database/sql"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/envelope"
)

// columns is what scan reads, in its order.
const columns = `key, state, observer, action, action_type, reason, run_at, created_at, updated_at,
    lease_owner, lease_until, claims, claimed_at, lost_at, queue, endpoint, priority, ordering, block_when_dead,
    redrives, edited_at, prints, error, attempts, request, event, malformed, data, before`

// row is a delivery as it is stored.
type row struct {
	state, observer, actionType, reason, err string

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
	envelope.Documents
}

// encode is d as a row that nobody has claimed.
func encode(d *observer.Delivery) (row, error) {
	r := row{
		state: string(d.State), observer: d.Observer, action: d.Action, actionType: d.ActionType,
		reason: string(d.Reason), err: d.Error, errorPrint: observer.Fingerprint(d.Error),
		runAt: micros(d.RunAt), queue: d.Queue, endpoint: d.Endpoint,
		priority: d.Priority, ordering: string(d.Order), blockWhenDead: d.BlockWhenDead,
		redrives: d.Redrives, editedAt: micros(d.EditedAt),
	}
	r.encodeLane(d)
	r.eventID, r.entityType, r.entityID = envelope.Subject(d)
	var err error
	r.Documents, err = envelope.Encode[string](d)
	return r, err
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
		r.editedAt, r.errorPrint, r.Prints, r.err, r.Attempts, r.Request, r.Event, r.Malformed, r.Data, r.Before,
		cmp.Or(r.priority, observer.DefaultPriority), observer.State(r.state).Due(),
	}
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
		&r.blockWhenDead, &r.redrives, &r.editedAt, &r.Prints, &r.err, &r.Attempts, &r.Request, &r.Event, &r.Malformed,
		&r.Data, &r.Before)
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
	envelope.Decode[string](&d, r.Documents, nil)
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
