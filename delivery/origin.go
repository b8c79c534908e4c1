package delivery

import (
	"time"

	"github.com/fraiseql/observer"
)

// origin is where a delivery stood when it was claimed.
type origin struct {
	state    observer.State
	reason   observer.Reason
	err      string
	runAt    time.Time
	redrives int
	edited   time.Time
	attempts int
	lost     int
}

func originOf(d *observer.Delivery) origin {
	return origin{
		state: d.ClaimedFrom, reason: d.Reason, err: d.Error, runAt: d.RunAt,
		redrives: d.Redrives, edited: d.EditedAt, attempts: len(d.Attempts), lost: d.Lost,
	}
}

// restore puts d back to where it was. What was attempted stays recorded.
func (o origin) restore(d *observer.Delivery) {
	d.State, d.Reason, d.Error, d.RunAt, d.Redrives = o.state, o.reason, o.err, o.runAt, o.redrives
}

// same reports whether nobody stored an outcome between two claims.
func (o origin) same(later origin) bool {
	return o.state == later.state && o.reason == later.reason && o.err == later.err &&
		o.redrives == later.redrives && o.edited.Equal(later.edited) && o.attempts == later.attempts
}

// lostError is what is known of an attempt whose process died.
const lostError = "the process that made this attempt ended before it stored the outcome"

// recordLost makes attempts of the claims whose holders died, so that what is
// recorded is what may have been sent.
func recordLost(d *observer.Delivery) {
	d.Attempts = appendLost(d.Attempts, d)
	d.Lost, d.LostAt = 0, time.Time{}
}

func appendLost(attempts []observer.Attempt, claimed *observer.Delivery) []observer.Attempt {
	for range claimed.Lost {
		attempts = append(attempts, observer.Attempt{
			Number: len(attempts) + 1, At: claimed.LostAt, Unknown: true, Error: lostError,
		})
	}
	return attempts
}

// release clears what a claim has set.
func release(d *observer.Delivery) {
	d.LeaseOwner, d.LeaseUntil = "", time.Time{}
	d.ClaimedFrom, d.ClaimedAt = "", time.Time{}
}
