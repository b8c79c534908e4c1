package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/envelope"
)

// InsertDeliveries implements [observer.DeliveryStore]. It keeps copies and
// changes nothing but the State of what it parks.
func (s *Store) InsertDeliveries(ctx context.Context, ds ...*observer.Delivery) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	for _, d := range ds {
		if err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead); err != nil {
			return 0, fmt.Errorf("store delivery %s: %w", d.Key, err)
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	fresh, dead := s.unknown(ds)
	if dead > 0 && s.dead+dead > s.maxDead {
		return 0, fmt.Errorf("store %d dead letters beside %d: %w", dead, s.dead, observer.ErrFull)
	}
	for _, d := range fresh {
		if d.State != observer.Dead && s.mustPark(d) {
			d.State = observer.Parked
		}
		s.add(d)
	}
	return len(fresh), nil
}

// unknown is those of ds whose key is new, and how many of them are dead.
func (s *Store) unknown(ds []*observer.Delivery) (fresh []*observer.Delivery, dead int) {
	seen := map[string]bool{}
	for _, d := range ds {
		if s.rows[d.Key] != nil || seen[d.Key] {
			continue
		}
		seen[d.Key] = true
		fresh = append(fresh, d)
		if d.State == observer.Dead {
			dead++
		}
	}
	return fresh, dead
}

func (s *Store) mustPark(d *observer.Delivery) bool {
	lane := d.Lane()
	return lane != "" && s.blocked(lane, d.Event.ID)
}

// add stores a copy of d as a new row.
func (s *Store) add(d *observer.Delivery) *row {
	s.places++
	r := &row{Delivery: clone(d), place: s.places}
	unclaim(r.Delivery)
	r.CreatedAt = s.clock()
	r.UpdatedAt = r.CreatedAt
	s.rows[r.Key] = r
	s.index(r, "")
	return r
}

// BeginDelivery implements [observer.DeliveryStore]. It does not change d and
// keeps a copy.
func (s *Store) BeginDelivery(ctx context.Context, d *observer.Delivery, owner string, lease time.Duration) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rows[d.Key] != nil {
		return false, nil
	}
	begun := clone(d)
	begun.State = observer.Unknown
	now := s.clock()
	s.add(begun).claim(owner, now, now.Add(lease))
	return true, nil
}

// Delivery implements [observer.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, key string) (*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.rows[key]
	if !ok {
		return nil, fmt.Errorf("read delivery %s: %w", key, observer.ErrNotFound)
	}
	return r.show(s.clock()), nil
}

// Deliveries implements [observer.DeliveryStore]. Deliveries stored at the same
// time are in the order of their insertion.
func (s *Store) Deliveries(ctx context.Context, f observer.DeliveryFilter) ([]*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	rows := s.sorted(func(r *row) bool { return matches(r, &f, now) }, byPlace)
	rows = rows[min(max(f.Offset, 0), len(rows)):]
	if f.Limit > 0 {
		rows = rows[:min(f.Limit, len(rows))]
	}
	ds := make([]*observer.Delivery, 0, len(rows))
	for _, r := range rows {
		ds = append(ds, r.show(now))
	}
	return ds, nil
}

// matches reports whether f selects r.
func matches(r *row, f *observer.DeliveryFilter, now time.Time) bool {
	eventID, entityType, entityID := envelope.Subject(r.Delivery)
	for _, field := range []struct{ want, have string }{
		{string(f.State), string(r.state(now))}, {f.Observer, r.Observer}, {f.ActionType, r.ActionType},
		{f.Queue, r.Queue}, {f.Endpoint, r.Endpoint}, {string(f.Reason), string(r.Reason)},
		{f.EntityType, entityType}, {f.EntityID, entityID}, {f.EventID, eventID},
	} {
		if field.want != "" && field.want != field.have {
			return false
		}
	}
	return (f.Action == nil || *f.Action == r.Action) &&
		(f.Fingerprint == "" || f.Fingerprint == observer.Fingerprint(r.Error)) &&
		!r.CreatedAt.Before(f.Since) && (f.Until.IsZero() || r.CreatedAt.Before(f.Until))
}

// DeliveryKeys implements [observer.DeliveryStore].
func (s *Store) DeliveryKeys(ctx context.Context, each func(key, lane string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, r := range s.rows {
		each(key, r.lane)
	}
	return nil
}

func (s *Store) sorted(match func(*row) bool, order func(a, b *row) int) []*row {
	var rows []*row
	for _, r := range s.rows {
		if match(r) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, order)
	return rows
}
