package memory

import (
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

// row is a stored delivery. Its State is where it stands when nobody runs it:
// that it is running follows from its lease.
type row struct {
	*observer.Delivery
	// place is the order of insertion, which orders lanes and lists.
	place uint64
	// lane is the one that the row blocks, "" when none.
	lane string
	// claims counts those since the last stored outcome. The last began at
	// ClaimedAt, and LostAt is when the one before it did.
	claims int
	// redriven: somebody claimed a dead letter of a strict lane, which it blocks
	// until the claim ends.
	redriven bool
	// settledBy is the owner of the last claim that ended with an outcome, if there
	// was none since.
	settledBy string
}

// band is what shares out places among workers.
type band struct{ queue, endpoint string }

func (r *row) band() band { return band{r.Queue, r.Endpoint} }

// dueAt is when a worker may claim the row. One without a time is due since it
// was stored.
func (r *row) dueAt() time.Time {
	if r.RunAt.IsZero() {
		return r.CreatedAt
	}
	return r.RunAt
}

// leased reports whether somebody runs the row. A lease is over at LeaseUntil,
// also when nobody else claimed the delivery since.
func (r *row) leased(now time.Time) bool { return r.LeaseUntil.After(now) }

// state is where the delivery stands, for everybody to see.
func (r *row) state(now time.Time) observer.State {
	if r.leased(now) {
		return observer.Running
	}
	return r.State
}

// claim leases the row. An owner that claims again what it holds prolongs its
// claim: nothing was lost in between.
func (r *row) claim(owner string, now, until time.Time) {
	if !r.leased(now) || r.LeaseOwner != owner {
		r.claims++
		r.LostAt, r.ClaimedAt = r.ClaimedAt, now
	}
	r.LeaseOwner, r.LeaseUntil, r.settledBy = owner, until, ""
}

// repeats reports whether d is stored already, as owner ended its claim. What it
// had parked may be queued since.
func (r *row) repeats(d *observer.Delivery, owner string) bool {
	return owner != "" && r.settledBy == owner && slices.EqualFunc(r.Attempts, d.Attempts, sameAttempt) &&
		(r.State == d.State || d.State == observer.Parked && r.State == observer.Queued)
}

func sameAttempt(a, b observer.Attempt) bool {
	at := a.At.Equal(b.At)
	a.At, b.At = time.Time{}, time.Time{}
	return at && a == b
}

// show is a copy for the caller. Without a running lease all claims since the
// last outcome are lost.
func (r *row) show(now time.Time) *observer.Delivery {
	d := clone(r.Delivery)
	if r.leased(now) {
		d.State, d.ClaimedFrom, d.Lost = observer.Running, r.State, r.claims-1
		return d
	}
	unclaim(d)
	d.Lost, d.LostAt = r.claims, r.ClaimedAt
	return d
}

// unclaim clears what stores set when they hand out claims.
func unclaim(d *observer.Delivery) {
	d.LeaseOwner, d.LeaseUntil = "", time.Time{}
	d.ClaimedFrom, d.ClaimedAt = "", time.Time{}
	d.Lost, d.LostAt = 0, time.Time{}
}

// clone shares only the event, which nobody changes.
func clone(d *observer.Delivery) *observer.Delivery {
	c := d.Clone()
	c.Request = slices.Clone(d.Request)
	c.Prints = slices.Clone(d.Prints)
	if d.Malformed != nil {
		m := *d.Malformed
		m.Raw = slices.Clone(m.Raw)
		c.Malformed = &m
	}
	return c
}

// checkState says which states a caller may store a delivery in.
func checkState(d *observer.Delivery, allowed ...observer.State) error {
	if !slices.Contains(allowed, d.State) {
		return fmt.Errorf("the state is %q, want one of %q", d.State, allowed)
	}
	return nil
}
