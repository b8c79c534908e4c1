package dedup

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

const (
	// hurry is how often the view is looked at while others have to adopt it.
	hurry = 25 * time.Millisecond
	// probeEvery is how often the fast store is looked after.
	probeEvery = time.Second
	// copyBatch is how many marks are copied between two looks at the view.
	copyBatch = 1000
	// carryAtOnce bounds how many claims are entered elsewhere at once.
	carryAtOnce = 64
)

// follow keeps the session and the view up to date until ctx ends.
func (s *Store) follow(ctx context.Context) {
	for ctx.Err() == nil {
		wait, err := s.step(ctx)
		s.mu.Lock()
		s.trouble = err
		s.mu.Unlock()
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-s.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
		}
	}
}

// step does what there is to do at present, and says when to look again.
func (s *Store) step(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	renewed := !began.Before(s.renew)
	if renewed {
		if err := s.hold(ctx, s.adopted); err != nil {
			return s.cfg.Poll, err
		}
		s.renew = began.Add(s.cfg.SessionLease / 4)
	}
	now, err := s.cfg.State.DedupView(ctx)
	if err != nil {
		return s.cfg.Poll, err
	}
	if over, cause := s.isOver(now); over {
		_, err := s.change(ctx, now, observer.DedupInState, "", cause)
		return 0, err
	}
	if now.Generation != s.adopted {
		if err := s.adopt(ctx, now); err != nil {
			return hurry, err
		}
		began = time.Now()
		if err := s.hold(ctx, now.Generation); err != nil {
			return hurry, err
		}
		s.adopted, s.renew = now.Generation, began.Add(s.cfg.SessionLease/4)
		s.trust(began)
		return 0, nil // to see whether the others have
	}
	if renewed {
		s.trust(began)
	}
	if !s.settle(now.Agreed) {
		return hurry, nil
	}
	return s.advance(ctx, now)
}

// hold prolongs the session. What it says is trusted from the moment it was
// asked for.
func (s *Store) hold(ctx context.Context, adopted int64) error {
	limited, cancel := s.limited(ctx)
	defer cancel()
	return s.cfg.State.HoldDedupSession(limited, s.cfg.Session, adopted, s.cfg.SessionLease)
}

// limited bounds what must not make the session end.
func (s *Store) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, s.cfg.SessionLease/4)
}

// trust notes that the session lasts, by a clock that may run a little slower
// than that of the store.
func (s *Store) trust(began time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trusted = began.Add(s.cfg.SessionLease * 8 / 10)
	s.notify()
}

// notify has whoever waits look again. The caller holds the lock.
func (s *Store) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// isOver reports whether a view depends on an epoch that is over.
func (s *Store) isOver(now observer.DedupView) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return now.Epoch != "" && now.Epoch == s.suspect, s.cause
}

// change proposes the next view, and logs when somebody else answers from then
// on.
func (s *Store) change(ctx context.Context, from observer.DedupView, place observer.DedupPlace, epoch string, cause error) (bool, error) {
	changed, err := s.cfg.State.ChangeDedupView(ctx, from.Generation, place, epoch)
	if err != nil || !changed {
		return changed, err
	}
	switch {
	case from.Place == observer.DedupInFront:
		s.cfg.Logger.Warn("deduplication goes on without Redis: the state store answers", "error", cause)
	case place == observer.DedupInFront:
		s.cfg.Logger.Info("deduplication uses Redis")
	default:
		s.cfg.Logger.Debug("deduplication changes", "place", string(place), "error", cause)
	}
	return true, nil
}

// adopt enters what this process does in the place where a view has it. From its
// beginning no claim of an earlier view counts any more.
func (s *Store) adopt(ctx context.Context, now observer.DedupView) error {
	v := &view{DedupView: now}
	if now.Epoch != "" {
		v.front = s.cfg.Front.Dedup(now.Epoch)
	}
	s.mu.Lock()
	old := s.view
	// Nobody waits where claims stay in the state store. While the session lasts
	// the others cannot have made any elsewhere meanwhile.
	v.ready = old != nil && old.ready && time.Now().Before(s.trusted) &&
		old.Place != observer.DedupInFront && now.Place != observer.DedupInFront
	s.view = v
	claims := slices.Collect(maps.Values(s.claims))
	s.notify()
	s.mu.Unlock()
	s.copied = ""
	s.probe = time.Now().Add(s.pause(now.Place))
	if err := s.queue.waitAll(ctx); err != nil {
		return err
	}
	if now.Place == observer.DedupFilling {
		if err := s.check(ctx, now); err != nil {
			return err
		}
	}
	if err := s.carry(ctx, v, claims); err != nil {
		if now.Place == observer.DedupInFront {
			s.doubt(now.Epoch, err)
		}
		return fmt.Errorf("carry claims over: %w", err)
	}
	return nil
}

// carry enters claims under way in the place of a view.
func (s *Store) carry(ctx context.Context, v *view, claims []underWay) error {
	var failed error
	var once sync.Once
	var entering sync.WaitGroup
	places := make(chan struct{}, carryAtOnce)
	for _, c := range claims {
		places <- struct{}{}
		entering.Go(func() {
			defer func() { <-places }()
			if _, err := s.place(v).ClaimDedup(ctx, c.claim, c.lease); err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	entering.Wait()
	return failed
}

// settle notes that all have adopted the view, and reports whether they have.
func (s *Store) settle(agreed bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if agreed && !s.view.ready {
		s.view.ready = true
		s.notify()
	}
	return agreed
}

// pause is how long the fast store is left alone at first. One that is away for
// some processes only would else be filled in vain all the time.
func (s *Store) pause(place observer.DedupPlace) time.Duration {
	switch place {
	case observer.DedupInFront:
		s.failures = 0
	case observer.DedupInState:
		s.failures++
		return backoff.Policy{Initial: probeEvery, Max: time.Minute}.Delay(s.failures - 1)
	case observer.DedupFilling:
	}
	return 0
}

// advance moves on towards the fast store, and looks after it.
func (s *Store) advance(ctx context.Context, now observer.DedupView) (time.Duration, error) {
	if now.Place == observer.DedupFilling {
		return s.fill(ctx, now)
	}
	if time.Now().Before(s.probe) {
		return s.cfg.Poll, nil
	}
	s.probe = time.Now().Add(probeEvery)
	if now.Place == observer.DedupInFront {
		_ = s.check(ctx, now) // what is wrong is noted
		return s.cfg.Poll, nil
	}
	limited, cancel := s.limited(ctx)
	defer cancel()
	epoch, err := s.cfg.Front.NewEpoch(limited)
	if err != nil {
		return s.cfg.Poll, nil // it is away, and the state store answers
	}
	_, err = s.change(ctx, now, observer.DedupFilling, epoch, nil)
	return 0, err
}

// check ends the epoch of a view unless it is as it was.
func (s *Store) check(ctx context.Context, now observer.DedupView) error {
	limited, cancel := s.limited(ctx)
	defer cancel()
	err := s.cfg.Front.CheckEpoch(limited, now.Epoch)
	if err != nil && ctx.Err() == nil {
		s.doubt(now.Epoch, err)
	}
	return err
}

// fill copies some of the marks from before to the fast store. When it has all
// of them it can answer alone.
func (s *Store) fill(ctx context.Context, now observer.DedupView) (time.Duration, error) {
	marks, err := s.cfg.State.DedupMarks(ctx, s.copied, copyBatch)
	if err != nil {
		return s.cfg.Poll, err
	}
	if len(marks) == 0 {
		if err := s.check(ctx, now); err != nil {
			return 0, nil // it is noted, and the next step goes back
		}
		_, err := s.change(ctx, now, observer.DedupInFront, now.Epoch, nil)
		return 0, err
	}
	limited, cancel := s.limited(ctx)
	defer cancel()
	if err := s.front().FinishDedup(limited, marks...); err != nil {
		s.doubt(now.Epoch, err)
		return 0, nil // it is noted, and the next step goes back
	}
	s.copied = marks[len(marks)-1].Key
	return 0, nil
}

// front is the fast store of the view.
func (s *Store) front() observer.DedupStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view.front
}
