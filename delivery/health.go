package delivery

import (
	"math"
	"time"

	"github.com/fraiseql/observer"
)

const (
	// hardFailures in a row without a success are failing hard.
	hardFailures = 10
	// persistAfter is how long an endpoint fails before that is stored, and how
	// often at most what is stored about it is renewed.
	persistAfter = time.Minute
	// rampTime is how long the rate grows after a recovery; it doubles with each
	// second, from rampRate a second on.
	rampTime = 10 * time.Second
	rampRate = 10
	// rampFailures in a row on a ramp end it: the endpoint is failing hard again.
	rampFailures = 3
	// rampAfter is how long an endpoint has to fail for a ramp to follow. What
	// waits after a shorter time is little, and an endpoint that fails now and
	// then would be on a ramp for ever.
	rampAfter = 2 * time.Second
	// rampStep is the shortest wait for the next start on a ramp.
	rampStep = 10 * time.Millisecond
)

// health is what this process knows about one endpoint that does not simply
// work.
type health struct {
	// failures is how many attempts failed in a row, failingSince when the first
	// of them did (possibly in another process).
	failures     int
	failingSince time.Time
	lastError    string
	// hard: failing hard, by what happened here or by what others stored.
	hard bool
	// long: a recovery is followed by a ramp, however short the failure was.
	long bool
	// slow: attempts take longer than a lane may wait.
	slow     bool
	pause    observer.Pause
	pausedAt time.Time
	// nextProbe is when an endpoint that is paused as failing may be tried.
	nextProbe time.Time
	// ramp is when the endpoint recovered, zero when that is long ago; started
	// counts the attempts begun since.
	ramp    time.Time
	started int

	// stored: the store has a row, last seen with seen as its UpdatedAt. savedAt
	// is when it was written here.
	stored        bool
	seen, savedAt time.Time
	// dirty: the store has to be told. alert: and somebody, of the pause.
	dirty, alert bool
	// unanswered: the last save failed, or its answer was lost.
	unanswered bool
	// version counts the changes by attempts.
	version int
}

// works reports whether there is nothing to remember.
func (h *health) works() bool {
	return h.failures == 0 && h.failingSince.IsZero() && !h.hard && !h.slow && h.pause == observer.NotPaused &&
		h.ramp.IsZero() && !h.stored && !h.dirty
}

// ready reports whether a lane may try the endpoint.
func (h *health) ready(now time.Time) bool {
	return h.pause == observer.NotPaused && !h.hard && !h.slow && !h.ramping(now)
}

func (h *health) ramping(now time.Time) bool {
	if !h.ramp.IsZero() && now.Sub(h.ramp) >= rampTime {
		h.ramp, h.started = time.Time{}, 0
	}
	return !h.ramp.IsZero()
}

// rampStarts is how many attempts may have begun some time after a recovery: the
// rate doubles with every second.
func rampStarts(since time.Duration) int {
	return int(rampRate * (math.Exp2(since.Seconds()) - 1) / math.Ln2)
}

// rampDue is when after a recovery the n-th attempt may begin.
func rampDue(n int) time.Duration {
	return time.Duration(math.Log2(1+float64(n)*math.Ln2/rampRate) * float64(time.Second))
}

// allowance is how many more attempts may begin while some are running. hard is
// how many may run when it fails hard.
func (h *health) allowance(now time.Time, running, hard int) int {
	switch {
	case h.pause == observer.PausedFailing:
		if running == 0 && !now.Before(h.nextProbe) {
			return 1
		}
		return 0
	case h.pause != observer.NotPaused:
		return 0
	case h.hard:
		return hard - running
	case h.ramping(now):
		return rampStarts(now.Sub(h.ramp)) - h.started
	}
	return math.MaxInt
}

// opens is when time alone will let the next attempt begin, zero when it will
// not.
func (h *health) opens(now time.Time) time.Time {
	at := time.Time{}
	switch {
	case h.pause == observer.PausedFailing:
		at = h.nextProbe
	case h.pause == observer.NotPaused && !h.hard && h.ramping(now):
		at = h.ramp.Add(max(rampDue(h.started+1), now.Sub(h.ramp)+rampStep))
	}
	if !at.After(now) {
		return time.Time{}
	}
	return at
}

// start notes that an attempt begins.
func (h *health) start(now time.Time, probeInterval time.Duration) {
	switch {
	case h.pause == observer.PausedFailing:
		h.nextProbe = now.Add(probeInterval)
	case h.ramping(now):
		h.started++
	}
}

// notStarted takes back what start noted.
func (h *health) notStarted(now time.Time) {
	switch {
	case h.pause == observer.PausedFailing:
		h.nextProbe = now
	case h.ramping(now):
		h.started = max(h.started-1, 0)
	}
}

// succeeded notes a success, and reports whether that is a recovery. What a
// person or the receiver itself has paused stays so.
func (h *health) succeeded(now time.Time) bool {
	recovered := (h.hard || h.pause == observer.PausedFailing) &&
		(h.pause == observer.NotPaused || h.pause == observer.PausedFailing)
	short := h.pause == observer.NotPaused && !h.long && now.Sub(h.failingSince) < rampAfter
	h.failures, h.failingSince, h.lastError, h.hard = 0, time.Time{}, "", false
	h.dirty = h.dirty || h.stored
	if recovered && !short {
		h.resume(now)
	}
	return recovered
}

// resume ends a pause or a failure; what waited leaves with a ramp.
func (h *health) resume(now time.Time) {
	h.pause, h.pausedAt, h.alert = observer.NotPaused, time.Time{}, false
	h.failures, h.failingSince, h.lastError, h.hard = 0, time.Time{}, "", false
	h.ramp, h.started, h.long = now, 0, false
}

// failed notes the failure of an attempt that began at a time. One that began
// before the recovery says nothing about the time since.
func (h *health) failed(now, began time.Time, cause error) {
	ramping := h.ramping(now)
	if ramping && began.Before(h.ramp) {
		return
	}
	h.failures++
	if ramping && h.failures >= rampFailures {
		h.ramp, h.started, h.hard, h.long = time.Time{}, 0, true, true
	}
	h.hard = h.hard || h.failures >= hardFailures
	h.lastError = cause.Error()
	if h.failingSince.IsZero() {
		h.failingSince = now
	}
	long := now.Sub(h.failingSince) >= persistAfter && now.Sub(h.savedAt) >= persistAfter
	h.dirty = h.dirty || long || h.pause == observer.PausedFailing
}

// pauseFor stops sending.
func (h *health) pauseFor(why observer.Pause, now time.Time, probeInterval time.Duration) {
	h.pause, h.pausedAt, h.nextProbe = why, now, now.Add(probeInterval)
	h.ramp, h.started = time.Time{}, 0
	h.dirty, h.alert = true, true
}

// row is what others should know.
func (h *health) row(name string) observer.Endpoint {
	return observer.Endpoint{
		Name: name, FailingSince: h.failingSince, LastError: h.lastError, Pause: h.pause, PausedAt: h.pausedAt,
	}
}
