package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	observer "github.com/fraiseql/observer"
)

// InsertDelivery implements [observer.DeliveryStore]. It does not change d and
// keeps a copy.
func (s *Store) InsertDelivery(ctx context.Context, d *observer.Delivery) error {
	if err := check(ctx, d); err != nil {
		return fmt.Errorf("store delivery %s: %w", d.Key, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.deliveries[d.Key]; there {
		return nil
	}
	if d.State == observer.Dead && s.dead >= s.maxDead {
		return fmt.Errorf("store delivery %s: %w", d.Key, observer.ErrFull)
	}
	stored := clone(d)
	stored.CreatedAt = s.clock()
	stored.UpdatedAt = stored.CreatedAt
	release(stored)
	s.put(stored)
	return nil
}

// Delivery implements [observer.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, key string) (*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.deliveries[key]
	if !ok {
		return nil, fmt.Errorf("read delivery %s: %w", key, observer.ErrNotFound)
	}
	return s.show(d), nil
}

// Deliveries implements [observer.DeliveryStore]. Deliveries stored at the same
// time are ordered by key.
func (s *Store) Deliveries(ctx context.Context, f observer.DeliveryFilter) ([]*observer.Delivery, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	list := s.sorted(func(d *observer.Delivery) bool {
		return (f.State == "" || d.State == f.State) &&
			(f.Observer == "" || d.Observer == f.Observer) &&
			!d.CreatedAt.Before(f.Since)
	}, oldestFirst)
	list = list[min(max(f.Offset, 0), len(list)):]
	if f.Limit > 0 {
		list = list[:min(f.Limit, len(list))]
	}
	for i, d := range list {
		list[i] = s.show(d)
	}
	return list, nil
}

// DeliveryKeys implements [observer.DeliveryStore].
func (s *Store) DeliveryKeys(ctx context.Context, each func(key string)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.deliveries {
		each(key)
	}
	return nil
}

// DeliveryStats implements [observer.DeliveryStore].
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		DeadByObserver: map[string]int{}, DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]int{},
	}
	if err := ctx.Err(); err != nil {
		return stats, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stats.Dead, stats.Scheduled = s.dead, len(s.deliveries)-s.dead
	byError := map[string]int{}
	for _, d := range s.deliveries {
		if d.State != observer.Dead {
			continue
		}
		stats.DeadByObserver[d.Observer]++
		stats.DeadByReason[d.Reason]++
		byError[d.Error]++
		if stats.OldestDead.IsZero() || d.CreatedAt.Before(stats.OldestDead) {
			stats.OldestDead = d.CreatedAt
		}
	}
	stats.DeadByError = mostFrequent(byError)
	return stats, nil
}

const (
	// maxErrorGroups bounds DeadByError: error texts may each be different.
	maxErrorGroups = 50
	// otherErrors counts the dead letters of the groups beyond it.
	otherErrors = "(other errors)"
)

func mostFrequent(counts map[string]int) map[string]int {
	texts := make([]string, 0, len(counts))
	for text := range counts {
		texts = append(texts, text)
	}
	slices.SortFunc(texts, func(a, b string) int { return cmp.Or(counts[b]-counts[a], cmp.Compare(a, b)) })
	kept := map[string]int{}
	for i, text := range texts {
		if i >= maxErrorGroups {
			kept[otherErrors] += counts[text]
			continue
		}
		kept[text] = counts[text]
	}
	return kept
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.deliveries[key]
	switch {
	case !ok:
		return fmt.Errorf("remove delivery %s: %w", key, observer.ErrNotFound)
	case leased(d, s.clock()):
		return fmt.Errorf("remove delivery %s: %w", key, observer.ErrBusy)
	}
	s.drop(d)
	return nil
}

// put and drop keep the number of dead letters true.
func (s *Store) put(d *observer.Delivery) {
	if old, ok := s.deliveries[d.Key]; ok {
		s.drop(old)
	}
	s.deliveries[d.Key] = d
	if d.State == observer.Dead {
		s.dead++
	}
}

func (s *Store) drop(d *observer.Delivery) {
	delete(s.deliveries, d.Key)
	if d.State == observer.Dead {
		s.dead--
	}
}

func (s *Store) sorted(match func(*observer.Delivery) bool, order func(a, b *observer.Delivery) int) []*observer.Delivery {
	var list []*observer.Delivery
	for _, d := range s.deliveries {
		if match(d) {
			list = append(list, d)
		}
	}
	slices.SortFunc(list, order)
	return list
}

func oldestFirst(a, b *observer.Delivery) int {
	return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.Key, b.Key))
}

// show is a copy for the caller, without a lease that ran out.
func (s *Store) show(d *observer.Delivery) *observer.Delivery {
	c := clone(d)
	if !leased(d, s.clock()) {
		release(c)
	}
	return c
}

// clone shares only the event, which nobody changes.
func clone(d *observer.Delivery) *observer.Delivery {
	c := *d
	c.Request = slices.Clone(d.Request)
	c.Attempts = slices.Clone(d.Attempts)
	if d.Malformed != nil {
		m := *d.Malformed
		m.Raw = slices.Clone(m.Raw)
		c.Malformed = &m
	}
	return &c
}

func check(ctx context.Context, d *observer.Delivery) error {
	if d.State != observer.Scheduled && d.State != observer.Dead {
		return fmt.Errorf("the state is %q, want %q or %q", d.State, observer.Scheduled, observer.Dead)
	}
	return ctx.Err()
}
