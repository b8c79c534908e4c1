package memory

import (
	"context"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// PruneDeliveries implements [observer.DeliveryStore]. Those go first that were
// stored first.
func (s *Store) PruneDeliveries(ctx context.Context, r observer.Retention, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unblock()
	for lane := range s.lanes {
		s.release(lane)
	}
	removed := s.prune(r.DoneBefore, limit, observer.Done, observer.Dropped)
	return removed + s.prune(r.DeadBefore, limit-removed, observer.Dead), nil
}

// unblock ends the claims of dead letters whose holders died.
func (s *Store) unblock() {
	now := s.clock()
	for _, r := range s.rows {
		if r.redriven && !r.leased(now) {
			r.redriven = false
			s.index(r, r.State)
		}
	}
}

// prune removes up to limit deliveries in one of states that were last updated
// before a time, and block nothing.
func (s *Store) prune(before time.Time, limit int, states ...observer.State) (removed int) {
	now := s.clock()
	rows := s.sorted(func(r *row) bool {
		return slices.Contains(states, r.state(now)) && r.lane == "" && r.UpdatedAt.Before(before)
	}, byPlace)
	for _, r := range rows[:min(max(limit, 0), len(rows))] {
		s.drop(r)
		removed++
	}
	return removed
}
