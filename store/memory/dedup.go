package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// dedup is what is known about handlings.
type dedup struct {
	rows     map[string]dedupRow // by key
	sessions map[string]dedupSession
	view     observer.DedupView
}

// dedupRow is a claim, or a mark, which has no owner.
type dedupRow struct {
	owner string
	until time.Time
}

type dedupSession struct {
	adopted int64
	until   time.Time
}

func newDedup() dedup {
	return dedup{
		rows: map[string]dedupRow{}, sessions: map[string]dedupSession{},
		view: observer.DedupView{Generation: 1, Place: observer.DedupInState},
	}
}

// ClaimDedup implements [observer.DedupStore].
func (s *Store) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (observer.DedupAnswer, error) {
	if err := ctx.Err(); err != nil {
		return observer.DedupAnswer{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	row, there := s.dedup.rows[c.Key]
	switch {
	case there && row.owner == "":
		return observer.DedupAnswer{Standing: observer.DedupDone}, nil
	case there && row.owner != c.Owner && row.until.After(now):
		return observer.DedupAnswer{Standing: observer.DedupBusy, Wait: row.until.Sub(now), Owner: row.owner}, nil
	}
	s.dedup.rows[c.Key] = dedupRow{owner: c.Owner, until: now.Add(lease)}
	return observer.DedupAnswer{Standing: observer.DedupClaimed}, nil
}

// FinishDedup implements [observer.DedupStore].
func (s *Store) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for _, m := range marks {
		row, there := s.dedup.rows[m.Key]
		if until := now.Add(m.Keep); !there || row.owner != "" || until.After(row.until) {
			s.dedup.rows[m.Key] = dedupRow{until: until}
		}
	}
	return nil
}

// ReleaseDedup implements [observer.DedupStore].
func (s *Store) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if row, there := s.dedup.rows[c.Key]; there && row.owner == c.Owner && c.Owner != "" {
		delete(s.dedup.rows, c.Key)
	}
	return nil
}

// DedupMarks implements [observer.DedupStateStore].
func (s *Store) DedupMarks(ctx context.Context, after string, limit int) ([]observer.DedupMark, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	var marks []observer.DedupMark
	for key, row := range s.dedup.rows {
		if key > after && row.owner == "" && row.until.After(now) {
			marks = append(marks, observer.DedupMark{Key: key, Keep: row.until.Sub(now)})
		}
	}
	slices.SortFunc(marks, func(a, b observer.DedupMark) int { return cmp.Compare(a.Key, b.Key) })
	return marks[:min(len(marks), limit)], nil
}

// DedupView implements [observer.DedupStateStore].
func (s *Store) DedupView(ctx context.Context) (observer.DedupView, error) {
	if err := ctx.Err(); err != nil {
		return observer.DedupView{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	view, now := s.dedup.view, s.clock()
	view.Agreed = true
	for _, session := range s.dedup.sessions {
		if session.adopted < view.Generation && session.until.After(now) {
			view.Agreed = false
		}
	}
	return view, nil
}

// ChangeDedupView implements [observer.DedupStateStore].
func (s *Store) ChangeDedupView(ctx context.Context, from int64, place observer.DedupPlace, epoch string) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.dedup.view.Generation != from {
		return false, nil
	}
	s.dedup.view = observer.DedupView{Generation: from + 1, Place: place, Epoch: epoch}
	return true, nil
}

// HoldDedupSession implements [observer.DedupStateStore].
func (s *Store) HoldDedupSession(ctx context.Context, session string, adopted int64, lease time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dedup.sessions[session] = dedupSession{adopted: adopted, until: s.clock().Add(lease)}
	return nil
}

// EndDedupSession implements [observer.DedupStateStore].
func (s *Store) EndDedupSession(ctx context.Context, session string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.dedup.sessions, session)
	return nil
}

// PruneDedup implements [observer.DedupStateStore].
func (s *Store) PruneDedup(ctx context.Context, limit int) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	for key, row := range s.dedup.rows {
		if removed < limit && !row.until.After(now) {
			delete(s.dedup.rows, key)
			removed++
		}
	}
	for session, row := range s.dedup.sessions {
		if removed < limit && !row.until.After(now) {
			delete(s.dedup.sessions, session)
			removed++
		}
	}
	return removed, nil
}
