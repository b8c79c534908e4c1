package memory

import (
	"cmp"
	"context"
	"slices"

	observer "github.com/fraiseql/observer"
)

// Blocked implements [observer.DeliveryStore].
func (s *Store) Blocked(ctx context.Context, lane, eventID string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.blocked(lane, eventID), nil
}

// blocked reports whether an event that comes last in its lane has to wait.
func (s *Store) blocked(lane, eventID string) bool {
	return slices.ContainsFunc(s.lanes[lane], func(r *row) bool { return r.Event.ID != eventID })
}

// blockedAtItsPlace reports whether r, which may have others parked behind it,
// has to wait: for what is on its way, and for what is parked before it.
func (s *Store) blockedAtItsPlace(r *row) bool {
	lane := r.Lane()
	return lane != "" && slices.ContainsFunc(s.lanes[lane], func(other *row) bool {
		return other.Event.ID != r.Event.ID && (other.State != observer.Parked || other.place < r.place)
	})
}

// index keeps lanes and the number of dead letters true after r was stored or
// changed. before is the State it had, "" when it is new.
func (s *Store) index(r *row, before observer.State) {
	s.countDead(before, -1)
	s.countDead(r.State, +1)
	lane := ""
	if r.Blocks() || r.redriven {
		lane = r.Lane()
	}
	if lane == r.lane {
		return
	}
	s.unlink(r)
	if r.lane = lane; lane != "" {
		at, _ := slices.BinarySearchFunc(s.lanes[lane], r, byPlace)
		s.lanes[lane] = slices.Insert(s.lanes[lane], at, r)
	}
}

func (s *Store) countDead(state observer.State, n int) {
	if state == observer.Dead {
		s.dead += n
	}
}

// unlink takes r out of the lane that it blocks.
func (s *Store) unlink(r *row) {
	if r.lane == "" {
		return
	}
	rest := slices.DeleteFunc(s.lanes[r.lane], func(other *row) bool { return other == r })
	if s.lanes[r.lane] = rest; len(rest) == 0 {
		delete(s.lanes, r.lane)
	}
	r.lane = ""
}

// release queues the parked deliveries of the next event in a lane when nothing
// is on its way there any more, and those of the events after it as long as
// what was queued keeps nobody waiting.
func (s *Store) release(lane string) {
	unparked := func(r *row) bool { return r.State != observer.Parked }
	for len(s.lanes[lane]) > 0 && !slices.ContainsFunc(s.lanes[lane], unparked) {
		rows := slices.Clone(s.lanes[lane])
		for _, r := range rows {
			if r.Event.ID == rows[0].Event.ID {
				s.queue(r)
			}
		}
	}
}

// queue ends the parking of r. It is due now, unless its own time is later.
func (s *Store) queue(r *row) {
	now := s.clock()
	before := r.State
	r.State, r.UpdatedAt = observer.Queued, now
	if r.RunAt.Before(now) {
		r.RunAt = now
	}
	s.index(r, before)
}

func byPlace(a, b *row) int { return cmp.Compare(a.place, b.place) }
