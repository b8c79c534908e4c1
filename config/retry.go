package config

import (
	"slices"
	"time"
)

// The keys of the waits between attempts.
const (
	maxAttemptsKey  = "max_attempts"
	initialDelayKey = "initial_delay_ms"
	maxDelayKey     = "max_delay_ms"
)

// Limits of a schedule. A wait is no longer than a delivery may live.
const (
	maxWaits = 999
	maxWait  = 8760 * time.Hour
)

func (r *Retry) read(s *scope) {
	s.fields(r)
	const key = "schedule"
	if r.Schedule == nil || s.failed(key) {
		return
	}
	for _, other := range []string{maxAttemptsKey, initialDelayKey, maxDelayKey, "backoff_strategy"} {
		if s.given(other) {
			s.failKey(other, "stands beside schedule, which has every wait: leave one of the two out")
		}
	}
	if n := len(r.Schedule); n == 0 || n > maxWaits {
		s.failKey(key, "must have 1 to %d waits, not %d", maxWaits, n)
	}
	for i, wait := range r.Schedule {
		if wait < 0 || wait > maxWait {
			s.fail(s.elementOffset(key, i), join(s.path, key), "must be between 0s and %s", short(maxWait))
		}
	}
	r.MaxAttempts = len(r.Schedule) + 1
}

// resolveRetries gives each action its retry: that of the observer, where what is
// not written there comes from the job queue for a queued action.
func (o *Observer) resolveRetries(s *scope, q JobQueue) {
	at := s.inner("retry")
	for i := range o.Actions {
		a := &o.Actions[i]
		a.Retry = o.Retry
		at.checkAge(o.Retry.MaxAge, i, a.Delay)
		if o.Retry.Schedule != nil {
			continue
		}
		defaults := at
		if a.Mode == ModeQueued {
			defaults = s.root().inner("job_queue")
			a.Retry.fill(at, q.retry())
		}
		at.checkDelays(a.Retry.InitialDelay, a.Retry.MaxDelay, defaults)
	}
}

// checkAge reports an action whose deliveries would be too old before their first
// attempt.
func (s *scope) checkAge(maxAge time.Duration, action int, delay time.Duration) {
	const key = "max_age"
	if maxAge > 0 && delay >= maxAge && !s.failed(key) {
		s.failKey(key, "is not longer than the delay of actions[%d] (%s): its deliveries would be given up before their first attempt", action, short(delay))
	}
}

// fill takes what the table at s does not say from other.
func (r *Retry) fill(s *scope, other Retry) {
	if !s.given(maxAttemptsKey) {
		r.MaxAttempts = other.MaxAttempts
	}
	if !s.given(initialDelayKey) {
		r.InitialDelay = other.InitialDelay
	}
	if !s.given(maxDelayKey) {
		r.MaxDelay = other.MaxDelay
	}
}

// checkDelays reports a first wait that is longer than the longest. What the
// table at s does not say stands at defaults, which may be the same table.
func (s *scope) checkDelays(initial, longest time.Duration, defaults *scope) {
	keys := []string{initialDelayKey, maxDelayKey}
	if initial <= longest || slices.ContainsFunc(keys, s.failed) || slices.ContainsFunc(keys, defaults.failed) {
		return
	}
	where := func(key string) string {
		if s.path == defaults.path || s.given(key) {
			return ""
		}
		return " in [" + defaults.path + "]"
	}
	if s.given(initialDelayKey) {
		s.failKey(initialDelayKey, "is more than max_delay_ms (%d%s)", longest.Milliseconds(), where(maxDelayKey))
	} else {
		s.failKey(maxDelayKey, "is less than initial_delay_ms (%d%s)", initial.Milliseconds(), where(initialDelayKey))
	}
}
