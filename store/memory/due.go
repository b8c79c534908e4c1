package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// ClaimDue implements [observer.DeliveryStore]. Room is asked with nothing
// locked. Of more queues and endpoints than Limit those go first whose next
// delivery has been due longest.
func (s *Store) ClaimDue(ctx context.Context, c observer.Claim) ([]*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	has := s.askRoom(c.Room)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var claimed []*observer.Delivery
	for _, r := range takeTurns(s.due(now, has), c.Limit) {
		r.claim(c.Owner, now, now.Add(c.Lease))
		claimed = append(claimed, r.show(now))
	}
	return claimed, nil
}

// askRoom gives how much room there is in a band, by asking once about each
// that is stored. A band that comes later has none.
func (s *Store) askRoom(room observer.Room) func(band, int) int {
	if room == nil {
		return func(_ band, wanted int) int { return wanted }
	}
	rooms := map[band]int{}
	for _, b := range s.bands() {
		rooms[b] = room(b.queue, b.endpoint)
	}
	return func(b band, wanted int) int { return max(min(rooms[b], wanted), 0) }
}

func (s *Store) bands() []band {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen := map[band]bool{}
	var bands []band
	for _, r := range s.rows {
		if b := r.band(); !seen[b] {
			seen[b] = true
			bands = append(bands, b)
		}
	}
	return bands
}

// due gives what may be claimed now, by band, each in the order in which it is
// to be claimed and no longer than its room.
func (s *Store) due(now time.Time, has func(band, int) int) [][]*row {
	byBand := map[band][]*row{}
	for _, r := range s.rows {
		if r.State.Due() && !r.leased(now) && !r.dueAt().After(now) {
			byBand[r.band()] = append(byBand[r.band()], r)
		}
	}
	var bands [][]*row
	for b, rows := range byBand {
		if room := has(b, len(rows)); room > 0 {
			slices.SortFunc(rows, claimOrder)
			bands = append(bands, rows[:room])
		}
	}
	slices.SortFunc(bands, func(a, b []*row) int { return longestDue(a[0], b[0]) })
	return bands
}

func claimOrder(a, b *row) int { return cmp.Or(priority(a)-priority(b), longestDue(a, b)) }

func longestDue(a, b *row) int { return cmp.Or(a.dueAt().Compare(b.dueAt()), byPlace(a, b)) }

func priority(r *row) int { return cmp.Or(r.Priority, observer.DefaultPriority) }

// takeTurns takes the first of each band, then the second of each, and so on.
func takeTurns(bands [][]*row, limit int) []*row {
	var taken []*row
	for turn := 0; len(bands) > 0; turn++ {
		bands = slices.DeleteFunc(bands, func(rows []*row) bool { return turn >= len(rows) })
		for _, rows := range bands {
			if len(taken) >= limit {
				return taken
			}
			taken = append(taken, rows[turn])
		}
	}
	return taken
}

// NextDue implements [observer.DeliveryStore]. Leases of dead letters and parked
// deliveries do not count: nothing becomes due when they end.
func (s *Store) NextDue(ctx context.Context, room observer.Room) (time.Time, error) {
	if err := ctx.Err(); err != nil {
		return time.Time{}, err
	}
	has := s.askRoom(room)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var next time.Time
	for _, r := range s.rows {
		if !r.State.Due() || has(r.band(), 1) == 0 {
			continue
		}
		at := r.dueAt()
		if r.leased(now) && at.Before(r.LeaseUntil) {
			at = r.LeaseUntil
		}
		if next.IsZero() || at.Before(next) {
			next = at
		}
	}
	return next, nil
}
