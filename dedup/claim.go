package dedup

import (
	"context"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// ClaimDedup implements [observer.DedupStore]. Its errors mean that neither
// store answers, or that the processes have not agreed in time.
func (s *Store) ClaimDedup(ctx context.Context, c observer.DedupClaim, lease time.Duration) (observer.DedupAnswer, error) {
	for {
		v, err := s.await(ctx)
		if err != nil {
			return observer.DedupAnswer{}, err
		}
		answer, err := s.place(v).ClaimDedup(ctx, c, lease)
		switch {
		case err != nil && (ctx.Err() != nil || v.Place != observer.DedupInFront):
			return answer, err
		case err != nil:
			s.doubt(v.Epoch, err)
		case s.accept(v, c, lease, answer):
			if v.Place != observer.DedupInFront {
				s.cfg.Bypassed()
			}
			return answer, nil
		default:
			// It was made in a place that counts no more. Left there, it would only
			// be in somebody's way until its lease ends.
			_ = s.place(v).ReleaseDedup(ctx, c)
		}
	}
}

// accept notes a claim, if the view under which it was made still holds: from
// then on it is carried over into every other view.
func (s *Store) accept(v *view, c observer.DedupClaim, lease time.Duration, answer observer.DedupAnswer) bool {
	if answer.Standing != observer.DedupClaimed {
		if answer.Standing == observer.DedupDone && v.Place == observer.DedupInFront {
			s.queue.offer(observer.DedupMark{Key: c.Key, Keep: s.cfg.Keep})
		}
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != v || !s.usable() {
		return false
	}
	s.claims[c.Key] = underWay{c, lease}
	return true
}

// FinishDedup implements [observer.DedupStore]. It returns when the store that
// is asked at present knows the marks; the state store has them soon.
func (s *Store) FinishDedup(ctx context.Context, marks ...observer.DedupMark) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	for {
		v, err := s.await(ctx)
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			// It has been handled, and that must not be forgotten.
			backoff.Wait(ctx, nil, s.cfg.Poll)
			continue
		}
		if err := s.finish(ctx, v, marks); err != nil {
			return err
		}
		if s.finished(v, marks) {
			return nil
		}
	}
}

// finish stores marks as a view wants them. While the fast store is being
// filled it gets them first: what the state store has, it then has, too.
func (s *Store) finish(ctx context.Context, v *view, marks []observer.DedupMark) error {
	if v.Place == observer.DedupInFront {
		place, err := s.queue.add(ctx, marks)
		if err != nil {
			return err
		}
		if err := v.front.FinishDedup(ctx, marks...); err != nil {
			s.doubt(v.Epoch, err)
			return s.queue.wait(ctx, place)
		}
		return nil
	}
	if v.Place == observer.DedupFilling {
		if err := v.front.FinishDedup(ctx, marks...); err != nil {
			s.doubt(v.Epoch, err)
		}
	}
	place, err := s.queue.add(ctx, marks)
	if err != nil {
		return err
	}
	return s.queue.wait(ctx, place)
}

// finished ends the claims of marks, if the view under which they were stored
// still holds. Until then they are carried over.
func (s *Store) finished(v *view, marks []observer.DedupMark) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.view != v || !time.Now().Before(s.trusted) {
		return false
	}
	for _, m := range marks {
		delete(s.claims, m.Key)
	}
	return true
}

// ReleaseDedup implements [observer.DedupStore].
func (s *Store) ReleaseDedup(ctx context.Context, c observer.DedupClaim) error {
	s.mu.Lock()
	if s.claims[c.Key].claim == c {
		delete(s.claims, c.Key)
	}
	s.mu.Unlock()
	for {
		v, err := s.await(ctx)
		if err != nil {
			return err
		}
		err = s.place(v).ReleaseDedup(ctx, c)
		if err != nil && ctx.Err() == nil && v.Place == observer.DedupInFront {
			s.doubt(v.Epoch, err)
			continue
		}
		if err != nil || s.holds(v) {
			return err
		}
	}
}

// holds reports whether v is still the view: what was released under it has not
// been carried over meanwhile.
func (s *Store) holds(v *view) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view == v
}
