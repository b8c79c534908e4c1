package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// maxErrorGroups bounds DeadByError: error texts may each be different.
const maxErrorGroups = 1000

// DeliveryStats implements [observer.DeliveryStore].
func (s *Store) DeliveryStats(ctx context.Context) (observer.DeliveryStats, error) {
	stats := observer.DeliveryStats{
		States: map[observer.State]int{}, Waiting: map[string]int{}, DeadByObserver: map[string]int{},
		DeadByReason: map[observer.Reason]int{}, DeadByError: map[string]observer.ErrorCount{},
	}
	if err := ctx.Err(); err != nil {
		return stats, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for _, r := range s.rows {
		state := r.state(now)
		stats.States[state]++
		switch {
		case state == observer.Dead:
			countDead(&stats, r)
		case state.Due() && !r.dueAt().After(now):
			stats.OldestDue = first(stats.OldestDue, r.dueAt())
		}
		if !state.Finished() {
			stats.Waiting[r.Endpoint]++
		}
	}
	boundErrors(stats.DeadByError)
	return stats, nil
}

// boundErrors leaves the most frequent ones.
func boundErrors(groups map[string]observer.ErrorCount) {
	if len(groups) <= maxErrorGroups {
		return
	}
	order := slices.SortedFunc(maps.Keys(groups), func(a, b string) int {
		return cmp.Or(cmp.Compare(groups[b].Count, groups[a].Count), cmp.Compare(a, b))
	})
	for _, fingerprint := range order[maxErrorGroups:] {
		delete(groups, fingerprint)
	}
}

func countDead(stats *observer.DeliveryStats, r *row) {
	stats.OldestDead = first(stats.OldestDead, r.CreatedAt)
	stats.DeadByObserver[r.Observer]++
	stats.DeadByReason[r.Reason]++
	fingerprint := observer.Fingerprint(r.Error)
	group := stats.DeadByError[fingerprint]
	stats.DeadByError[fingerprint] = observer.ErrorCount{Count: group.Count + 1, Example: r.Error}
}

// first is the earlier time; a zero a is none.
func first(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}
