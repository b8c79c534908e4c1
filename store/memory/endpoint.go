package memory

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// Endpoints implements [observer.DeliveryStore].
func (s *Store) Endpoints(ctx context.Context) ([]observer.Endpoint, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]observer.Endpoint, 0, len(s.endpoints))
	for _, e := range s.endpoints {
		all = append(all, e)
	}
	slices.SortFunc(all, func(a, b observer.Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// SaveEndpoint implements [observer.DeliveryStore].
func (s *Store) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	row, there := s.endpoints[e.Name]
	remove := e.FailingSince.IsZero() && e.Pause == observer.NotPaused
	switch {
	case remove && !there:
		return nil
	case !row.UpdatedAt.Equal(e.UpdatedAt):
		return fmt.Errorf("save endpoint %s: %w", e.Name, observer.ErrBusy)
	case remove:
		delete(s.endpoints, e.Name)
		return nil
	}
	e.UpdatedAt = s.clock()
	if !e.UpdatedAt.After(row.UpdatedAt) {
		e.UpdatedAt = row.UpdatedAt.Add(time.Microsecond)
	}
	s.endpoints[e.Name] = e
	return nil
}
