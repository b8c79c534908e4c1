package storetest

import (
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// model says what a store must hold, in the plainest way.
type model struct {
	now func() time.Time
	// rows are in the order of insertion. State is where a delivery stands when
	// its lease is over.
	rows []*modelRow
}

type modelRow struct {
	*observer.Delivery
	claims            int
	claimedAt, lostAt time.Time
	// redriven: it was dead, and was claimed, and that has not ended.
	redriven bool
	// outcome is how outcomeBy ended the last claim, when there was none since.
	outcome   *observer.Delivery
	outcomeBy string
}

// Blocks reports whether r keeps others of its lane waiting.
func (r *modelRow) Blocks() bool {
	return r.Delivery.Blocks() || r.redriven && r.Order == observer.OrderStrict
}

func (m *model) find(key string) *modelRow {
	for _, r := range m.rows {
		if r.Key == key {
			return r
		}
	}
	return nil
}

func (m *model) leased(r *modelRow) bool { return r.LeaseUntil.After(m.now()) }

// shown is the state that everybody sees.
func (m *model) shown(r *modelRow) observer.State {
	if m.leased(r) {
		return observer.Running
	}
	return r.State
}

// due reports whether a worker may claim r now.
func (m *model) due(r *modelRow) bool {
	return r.State.Due() && !m.leased(r) && !r.RunAt.After(m.now())
}

// blocking are the deliveries of other events that block the lane of d.
func (m *model) blocking(d *observer.Delivery) []*modelRow {
	var found []*modelRow
	for _, r := range m.rows {
		if d.Lane() != "" && r.Lane() == d.Lane() && r.Event.ID != d.Event.ID && r.Blocks() {
			found = append(found, r)
		}
	}
	return found
}

// insert stores a copy of d in the state that it must get, unless it is there.
func (m *model) insert(d *observer.Delivery) (stored bool) {
	if m.find(d.Key) != nil {
		return false
	}
	r := &modelRow{Delivery: d.Clone()}
	if r.State != observer.Dead && len(m.blocking(d)) > 0 {
		r.State = observer.Parked
	}
	r.CreatedAt, r.UpdatedAt = m.now(), m.now()
	m.rows = append(m.rows, r)
	return true
}

func (m *model) begin(d *observer.Delivery, owner string) {
	r := &modelRow{Delivery: d.Clone()}
	r.State, r.CreatedAt, r.UpdatedAt = observer.Unknown, m.now(), m.now()
	m.rows = append(m.rows, r)
	m.claim(r, owner)
}

func (m *model) claim(r *modelRow, owner string) {
	r.claims++
	r.redriven = r.State == observer.Dead
	r.lostAt, r.claimedAt, r.outcome = r.claimedAt, m.now(), nil
	r.LeaseOwner, r.LeaseUntil = owner, m.now().Add(lease)
}

func (m *model) update(d *observer.Delivery) {
	r := m.find(d.Key)
	created := r.CreatedAt
	*r = modelRow{Delivery: d.Clone(), outcome: d.Clone(), outcomeBy: r.LeaseOwner}
	r.LeaseOwner, r.LeaseUntil = "", time.Time{}
	r.CreatedAt, r.UpdatedAt = created, m.now()
	m.release(r.Lane())
}

// waits reports whether r, at its own place in the lane, has to wait.
func (m *model) waits(r *modelRow) bool {
	place := slices.Index(m.rows, r)
	return slices.ContainsFunc(m.blocking(r.Delivery), func(other *modelRow) bool {
		return other.State != observer.Parked || slices.Index(m.rows, other) < place
	})
}

// requeue gives the states that a store may tell: r may be parked at first, and
// be queued with what it was parked behind.
func (m *model) requeue(r *modelRow, at time.Time) []observer.State {
	before := r.State
	if r.State = observer.Queued; before == observer.Dead {
		r.Redrives++
		if m.waits(r) {
			r.State = observer.Parked
		}
	}
	r.RunAt, r.UpdatedAt, r.redriven = at, m.now(), false
	first := r.State
	m.release(r.Lane())
	return []observer.State{first, r.State}
}

// unblock ends the claims of dead letters whose holders died, as pruning does.
func (m *model) unblock() {
	for _, r := range m.rows {
		if r.redriven && !m.leased(r) {
			r.redriven = false
			m.release(r.Lane())
		}
	}
}

func (m *model) remove(r *modelRow) {
	m.rows = slices.DeleteFunc(m.rows, func(other *modelRow) bool { return other == r })
	m.release(r.Lane())
}

// release queues the next event of a lane as long as there are only parked ones.
func (m *model) release(lane string) {
	for lane != "" {
		var parked []*modelRow
		for _, r := range m.rows {
			switch {
			case r.Lane() != lane || !r.Blocks():
			case r.State != observer.Parked:
				return
			default:
				parked = append(parked, r)
			}
		}
		if len(parked) == 0 {
			return
		}
		for _, r := range parked {
			if r.Event.ID == parked[0].Event.ID {
				m.queue(r)
			}
		}
	}
}

func (m *model) queue(r *modelRow) {
	r.State = observer.Queued
	if r.RunAt.Before(m.now()) {
		r.RunAt = m.now()
	}
	r.UpdatedAt = m.now()
}
