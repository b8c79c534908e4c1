package memory

import (
	"cmp"
	"context"
	"slices"

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
	if e.FailingSince.IsZero() && e.Pause == observer.NotPaused {
		delete(s.endpoints, e.Name)
		return nil
	}
	e.UpdatedAt = s.clock()
	s.endpoints[e.Name] = e
	return nil
}
