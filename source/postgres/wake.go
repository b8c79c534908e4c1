package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

const (
	// firstStep is the wait after a poll that found nothing while writers are
	// about; it doubles with each that finds nothing either.
	firstStep = time.Millisecond
	// sleepAfter is the wait from which on it is worth trying to sleep.
	sleepAfter = 4 * time.Millisecond
	// pollGap is the least time between two polls that each find less than a
	// batch. Writers feel polls that follow each other at once: 32 of them on two
	// cores made a tenth fewer transactions.
	pollGap = 4 * time.Millisecond
	// writerStep is the longest wait while a writer keeps the listener from
	// sleeping: nobody will tell when the next one commits.
	writerStep = 25 * time.Millisecond
	// writerRetry is the time between two tries to sleep while a writer prevents
	// it, and sleeperRetry while another listener sleeps, who may leave unseen.
	writerRetry  = 100 * time.Millisecond
	sleeperRetry = 2 * time.Second
)

// wake is how a stream learns of new rows without asking all the time.
//
// A listener that sleeps holds an advisory lock. A writer tries to share it: one
// that gets it knows the listener to be awake, need not notify, and keeps it
// from falling asleep until the commit; one that does not get it notifies. So
// NOTIFY, which makes writers wait for each other, happens only when the log
// was quiet.
type wake struct {
	// able: writers notify a sleeping listener, and this session can hear it.
	able bool
	// asleep: this session holds the lock.
	asleep bool
	// another session held it when we last tried, so that writers notify.
	another bool
	// told: there was a notification before the last poll.
	told bool
	key  int64
	step time.Duration
	// retry is when to try next to sleep.
	retry time.Time
}

// prepare finds out how to wait, and begins to listen.
func (s *stream) prepare(ctx context.Context) error {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	s.wake.step, s.wake.key = firstStep, changelog.WakeKey(s.cfg.Log)
	mode := s.log.layout.Notify
	switch {
	case s.conn.pooled: // neither the lock nor LISTEN would be ours
		s.cfg.Logger.Warn("the connection goes through a pooler; new changes are found by polling only", "poll_interval", s.cfg.PollInterval)
		return nil
	case !s.log.layout.HasWakeTrigger || mode == changelog.NotifyNever:
		return nil
	}
	var twoPhase bool
	err := s.conn.QueryRow(ctx, "SELECT current_setting('max_prepared_transactions')::int > 0").Scan(&twoPhase)
	if err != nil {
		return s.failed("prepare to listen", err)
	}
	if twoPhase && mode != changelog.NotifyAlways {
		return nil
	}
	if _, err := s.conn.Exec(ctx, "LISTEN "+pgx.Identifier{changelog.Channel}.Sanitize()); err != nil {
		return s.failed("listen", err)
	}
	s.wake.able = true
	return nil
}

// quiet reports whether there is nobody to be expected to write right now.
func (s *stream) quiet() bool {
	w := &s.wake
	if w.able {
		return (w.asleep || w.another) && !w.told
	}
	return w.step >= s.cfg.PollInterval
}

// space keeps polls apart that would each find a few rows.
func (s *stream) space(ctx context.Context) error {
	if !s.more && len(s.buf) > 0 {
		timer := time.NewTimer(time.Until(s.polled.Add(pollGap)))
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		}
	}
	s.polled = time.Now()
	return nil
}

// rest waits until it is worth looking again.
func (s *stream) rest(ctx context.Context) error {
	w := &s.wake
	if !w.able {
		return s.pause(ctx, s.cfg.PollInterval)
	}
	if !w.asleep && w.step >= sleepAfter && !time.Now().Before(w.retry) {
		before := w.another
		if err := s.lieDown(ctx); err != nil {
			return s.failed("prepare to sleep", err)
		}
		if w.asleep || w.another && !before {
			return nil // what committed before somebody slept is seen by one more poll
		}
	}
	if w.asleep || w.another {
		return s.listen(ctx)
	}
	return s.pause(ctx, writerStep)
}

// lieDownQuery tries to take the lock, and says who has it otherwise: a writer
// holds it in ShareLock, a listener that sleeps in ExclusiveLock.
const lieDownQuery = `SELECT CASE WHEN pg_try_advisory_lock($2) THEN 'asleep'
 WHEN EXISTS (SELECT FROM pg_locks
   WHERE locktype = 'advisory' AND database = $1 AND objsubid = 1
     AND classid = (($2::bigint >> 32) & 4294967295)::oid AND objid = ($2::bigint & 4294967295)::oid
     AND mode = 'ExclusiveLock' AND granted) THEN 'another'
 ELSE 'writer' END`

// lieDown tries to take the lock.
func (s *stream) lieDown(ctx context.Context) error {
	ctx, cancel := s.patiently(ctx)
	defer cancel()
	var state string
	if err := s.conn.QueryRow(ctx, lieDownQuery, s.log.database, s.wake.key).Scan(&state); err != nil {
		return err
	}
	w := &s.wake
	w.asleep, w.another = state == "asleep", state == "another"
	switch {
	case w.another:
		w.retry = time.Now().Add(sleeperRetry)
	case !w.asleep:
		w.retry = time.Now().Add(writerRetry)
	}
	return nil
}

// listen waits for a writer to notify, for an interval at most: the poll after
// it finds what came without a notification, and whether the server is there.
func (s *stream) listen(ctx context.Context) error {
	if s.wake.told { // about another log, or what a failed reader had left
		if err := s.pause(ctx, writerStep); err != nil {
			return err
		}
	}
	if s.conn.notified {
		return nil
	}
	most := min(s.cfg.PollInterval, s.patience)
	if s.wake.another {
		most = min(most, sleeperRetry)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, most, errInterval)
	defer cancel()
	_, err := s.conn.WaitForNotification(ctx)
	if err == nil || errors.Is(context.Cause(ctx), errInterval) && !s.conn.IsClosed() {
		return nil
	}
	return s.failed("wait for changes", err)
}

var errInterval = errors.New("the interval is over")

// rouse ends the sleep: there are writers about.
func (s *stream) rouse(ctx context.Context) error {
	w := &s.wake
	w.step, w.another, w.retry = firstStep, false, time.Time{}
	if !w.asleep {
		return nil
	}
	ctx, cancel := s.patiently(context.WithoutCancel(ctx))
	defer cancel()
	var held bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_advisory_unlock($1)", w.key).Scan(&held); err != nil {
		return fmt.Errorf("let go of the wake-up lock: %w", err)
	}
	w.asleep = false
	return nil
}

// pause waits for a step, which is longer the next time.
func (s *stream) pause(ctx context.Context, most time.Duration) error {
	most = min(most, s.cfg.PollInterval)
	timer := time.NewTimer(min(s.wake.step, most))
	defer timer.Stop()
	s.wake.step = min(2*s.wake.step, most)
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
