package middleware

import (
	"context"
	"math"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/internal/backoff"
)

// SharedLimits counts the turns at endpoints for several processes together.
type SharedLimits interface {
	// Take asks for the turn of an attempt. Where nobody knows it is given: the
	// limits of each process then hold alone. It takes no longer than an attempt can
	// wait.
	Take(ctx context.Context, q TurnRequest) SharedTurn
}

// TurnRequest is what an attempt asks for.
type TurnRequest struct {
	Endpoint string
	Limits   LimitsConfig
	// Ahead is how long the attempt can wait for a token that it has been given.
	Ahead time.Duration
	// Starved says that this process has asked for a place in vain for long.
	Starved bool
}

// SharedTurn is the answer.
type SharedTurn struct {
	// End gives the turn back, at the end of the attempt, or when it was not made and
	// used is false. It is nil when the turn was not given.
	End func(ctx context.Context, used bool)
	// Wait is how long to wait before the attempt begins or, when the turn was not
	// given, before asking again: 0 when all places are taken, and nobody knows for how
	// long.
	Wait time.Duration
}

const (
	// sharedPause is the first wait of a process that was refused, which grows up to
	// a moment. A place that another process leaves is noticed after it at the latest.
	sharedPause = 50 * time.Millisecond
	// starvedAfter is how long a process asks for a place before it goes first.
	starvedAfter = time.Second
	// manyAsking is how many may ask at once before their number does not matter.
	manyAsking = 64
)

// sharing is what a process knows of a limit that it shares: how many attempts
// may ask for their turn now. One that has been refused asks once, after a while,
// and then for twice as many whenever it gets a turn: what a worker claims in vain
// has to be stored again.
type sharing struct {
	// until is before when asking is of no use. byPlace says that a place was
	// missing, refusals how often in a row something was, since when.
	until    time.Time
	byPlace  bool
	refusals int
	since    time.Time
	// room is how many may ask at the same time, 0 is any number; asking is how many
	// do, or are about to.
	room, asking int
}

// available is how many more may ask now.
func (s *sharing) available(now time.Time) int {
	switch {
	case s.until.After(now):
		return 0
	case s.room > 0:
		return max(s.room-s.asking, 0)
	}
	return math.MaxInt
}

// idle reports whether there is nothing to remember.
func (s *sharing) idle(now time.Time) bool {
	return s.asking == 0 && now.Sub(s.until) > starvedAfter
}

func (s *sharing) refused(now time.Time, wait time.Duration) {
	s.refusals++
	if s.since.IsZero() {
		s.since = now
	}
	if s.byPlace = wait <= 0; s.byPlace {
		wait = backoff.Policy{Initial: sharedPause, Max: moment}.Delay(s.refusals)
	} else {
		wait = max(wait, moment/2) // what is given ahead lasts for longer
	}
	s.until, s.room = now.Add(wait), 1
}

// granted notes a turn that has to wait. One that waits for long shows that others
// have taken what there is for now.
func (s *sharing) granted(now time.Time, wait time.Duration) {
	*s = sharing{room: s.room, asking: s.asking}
	if s.room > 0 {
		s.room++
	}
	if s.room > manyAsking {
		s.room = 0
	}
	if wait > moment/2 {
		s.until = now.Add(wait - moment/2)
	}
}

// left notes that a place became free, because this process has left it.
func (s *sharing) left() {
	if s.byPlace {
		s.until = time.Time{}
	}
}

// startAsking notes that the ticket is about to ask.
func (k *ticket) startAsking() {
	k.guard.limits.sharing.asking++
	k.asking = true
}

func (k *ticket) endAsking() {
	if k.asking {
		k.asking = false
		k.guard.limits.sharing.asking--
	}
}

// together takes the turn that is counted for all processes, after the one that is
// counted in this. ahead is how long it may wait. end gives both back, as used or as
// not, with the token unless it was used; until is when to ask again if there was no
// turn.
func (t *Traffic) together(ctx context.Context, k *ticket, ahead time.Duration) (end func(used bool), until time.Time, ok bool) {
	if t.cfg.Shared == nil {
		return func(bool) { k.give(k.backTurn) }, time.Time{}, true
	}
	q, until, ok := t.asks(k)
	if !ok {
		k.give(k.backTurn)
		return nil, until, false
	}
	q.Ahead = ahead
	turn := t.cfg.Shared.Take(ctx, q)
	if turn.End == nil {
		return nil, t.refused(k, turn.Wait), false
	}
	t.granted(k, turn.Wait)
	if turn.Wait > 0 && !backoff.Wait(ctx, observer.Drain(ctx), turn.Wait) {
		turn.End(ctx, false)
		k.give(k.backTurn)
		return nil, time.Now(), false
	}
	return func(used bool) {
		turn.End(ctx, used)
		k.give(func() {
			k.guard.limits.sharing.left()
			k.backTurn()
		})
	}, time.Time{}, true
}

// asks reports whether an attempt may ask for its turn, and what for.
func (t *Traffic) asks(k *ticket) (q TurnRequest, until time.Time, ok bool) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	s := &k.guard.limits.sharing
	switch {
	case s.until.After(now):
		t.fallBehind(k.guard)
		return q, s.until, false
	case !k.asking && s.available(now) == 0:
		t.fallBehind(k.guard)
		return q, now.Add(sharedPause), false
	case !k.asking:
		k.startAsking()
	}
	starved := s.byPlace && !s.since.IsZero() && now.Sub(s.since) >= starvedAfter
	return TurnRequest{Endpoint: k.guard.name, Limits: k.guard.limits.cfg, Starved: starved}, time.Time{}, true
}

// granted ends the asking of a ticket that got its turn, and tells the worker when
// more may ask now.
func (t *Traffic) granted(k *ticket, wait time.Duration) {
	t.mu.Lock()
	s := &k.guard.limits.sharing
	waited := s.room > 0 && t.shut[k.guard.name] != nil
	k.endAsking()
	s.granted(time.Now(), wait)
	wake := t.wake
	t.mu.Unlock()
	if waited {
		wake()
	}
}

// refused gives everything back that a ticket has which got no turn, and says
// when to ask again. Until then nobody does.
func (t *Traffic) refused(k *ticket, wait time.Duration) (until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g := k.guard
	g.limits.sharing.refused(time.Now(), wait)
	k.backTurn()
	t.fallBehind(g)
	return g.limits.sharing.until
}
