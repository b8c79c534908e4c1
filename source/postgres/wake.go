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
	// writerStep is the longest wait while a writer keeps the listener from
	// sleeping: nobody will tell when the next one commits.
	writerStep = 25 * time.Millisecond
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
	// another session holds it, so that writers notify.
	another bool
	key     int64
	step    time.Duration
}

// prepare finds out how to wait, and begins to listen.
func (s *stream) prepare(ctx context.Context) error {
	s.wake.step, s.wake.key = firstStep, changelog.WakeKey(s.cfg.Log)
	mode := s.log.layout.Notify
	if !s.log.layout.HasWakeTrigger || mode == changelog.NotifyNever {
		return nil
	}
	var pid uint32
	var twoPhase bool
	err := s.conn.QueryRow(ctx, "SELECT pg_backend_pid(), current_setting('max_prepared_transactions')::int > 0").Scan(&pid, &twoPhase)
	if err != nil {
		return s.failed("prepare to listen", err)
	}
	if twoPhase && mode != changelog.NotifyAlways {
		return nil
	}
	// Behind a pooler the process differs from the one that greeted us, and from
	// statement to statement: neither the lock nor LISTEN would be ours.
	if pid != s.conn.PgConn().PID() {
		s.cfg.Logger.Warn("the connection goes through a pooler; new changes are found by polling only", "poll_interval", s.cfg.PollInterval)
		return nil
	}
	if _, err := s.conn.Exec(ctx, "LISTEN "+pgx.Identifier{changelog.Channel}.Sanitize()); err != nil {
		return s.failed("listen", err)
	}
	s.wake.able = true
	return nil
}

// rest waits until it is worth looking again.
func (s *stream) rest(ctx context.Context) error {
	w := &s.wake
	if w.able && !w.asleep && w.step >= sleepAfter {
		if err := s.lieDown(ctx); err != nil {
			return s.failed("prepare to sleep", err)
		}
		if w.asleep {
			return nil // what committed before the lock was taken is seen by one more poll
		}
	}
	if w.asleep || w.another {
		return s.listen(ctx)
	}
	most := s.cfg.PollInterval
	if w.able {
		most = min(most, writerStep)
	}
	wait := min(w.step, most)
	w.step = min(2*w.step, most)
	return pause(ctx, wait)
}

// lieDown tries to take the lock.
func (s *stream) lieDown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, statementPatience)
	defer cancel()
	w := &s.wake
	if err := s.conn.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", w.key).Scan(&w.asleep); err != nil {
		return err
	}
	w.another = false
	if w.asleep || w.step < writerStep {
		return nil
	}
	return s.conn.QueryRow(ctx, sleeperQuery, s.log.database, w.key).Scan(&w.another)
}

// sleeperQuery asks whether somebody sleeps. Writers hold the lock in ShareLock.
const sleeperQuery = `SELECT EXISTS (SELECT FROM pg_locks
 WHERE locktype = 'advisory' AND database = $1 AND objsubid = 1
   AND classid = (($2::bigint >> 32) & 4294967295)::oid AND objid = ($2::bigint & 4294967295)::oid
   AND mode = 'ExclusiveLock' AND granted)`

// listen waits for a writer to notify, for an interval at most: the poll after
// it finds what came without a notification, and whether the server is there.
func (s *stream) listen(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.PollInterval, errInterval)
	defer cancel()
	s.wake.another = false
	_, err := s.conn.WaitForNotification(ctx)
	switch {
	case err == nil:
		return s.rouse(ctx)
	case errors.Is(context.Cause(ctx), errInterval) && !s.conn.IsClosed():
		return nil
	}
	return s.failed("wait for changes", err)
}

var errInterval = errors.New("the interval is over")

// rouse ends the sleep: there are writers about.
func (s *stream) rouse(ctx context.Context) error {
	s.wake.step = firstStep
	if !s.wake.asleep {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), statementPatience)
	defer cancel()
	var held bool
	if err := s.conn.QueryRow(ctx, "SELECT pg_advisory_unlock($1)", s.wake.key).Scan(&held); err != nil {
		return fmt.Errorf("let go of the wake-up lock: %w", err)
	}
	s.wake.asleep = false
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
