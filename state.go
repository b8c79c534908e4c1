package observer

import "time"

// State is where a delivery stands. The zero State has not been decided yet:
// the first pass is under way.
type State string

// The states of a delivery. Those from Queued to Running are unfinished.
const (
	// Queued deliveries wait for a worker from RunAt on.
	Queued State = "queued"
	// Scheduled deliveries failed and are tried again at RunAt.
	Scheduled State = "scheduled"
	// Unknown deliveries were sent and not answered: whether they arrived, nobody
	// here can know. They are tried again at RunAt, under the same key.
	Unknown State = "unknown"
	// Parked deliveries wait behind an earlier one of their [Delivery.Lane].
	Parked State = "parked"
	// Running deliveries are leased: somebody makes an attempt right now.
	Running State = "running"
	// Done deliveries succeeded.
	Done State = "done"
	// Dropped deliveries failed, and their observer said to log that and go on.
	Dropped State = "dropped"
	// Dead deliveries wait for a person: redrive or remove.
	Dead State = "dead"
)

// States lists every state, unfinished ones first.
func States() []State {
	return []State{Queued, Scheduled, Unknown, Parked, Running, Done, Dropped, Dead}
}

// Finished reports whether nothing more happens to a delivery in s by itself.
func (s State) Finished() bool { return s == Done || s == Dropped || s == Dead }

// Due reports whether workers claim a delivery in s once its time has come.
func (s State) Due() bool { return s == Queued || s == Scheduled || s == Unknown }

// Next lists the states that can follow s; "" is a delivery that is not stored
// yet. A delivery follows these arrows and no others, in every store:
//
//	""        what its first pass decides, or Parked behind another
//	Queued    Running
//	Scheduled Running, Queued (a person does not wait for its time)
//	Unknown   Running, Queued (as above)
//	Parked    Queued (what was before it is out of the way), Running (a person insists)
//	Running   Done, Dropped, Dead, Scheduled, Unknown; and back to where it was
//	          when it was claimed and not tried, or whoever ran it died
//	Dead      Running (a redrive at once), Queued and Parked (a redrive by the worker)
func (s State) Next() []State {
	switch s {
	case "":
		return []State{Queued, Scheduled, Unknown, Parked, Running, Done, Dropped, Dead}
	case Queued:
		return []State{Running}
	case Scheduled, Unknown:
		return []State{Running, Queued}
	case Parked:
		return []State{Queued, Running}
	case Running:
		return []State{Queued, Scheduled, Unknown, Parked, Done, Dropped, Dead}
	case Dead:
		return []State{Running, Queued, Parked}
	case Done, Dropped:
	}
	return nil
}

// Succeed decides that d is done.
func (d *Delivery) Succeed() {
	d.State, d.Reason, d.Error, d.RunAt = Done, "", "", time.Time{}
}

// Retry decides that d failed with cause and is tried again at a time: it is
// Unknown when cause is marked [OutcomeUnknown], else Scheduled. When cause is
// marked [NotTried], the last attempt that was made says which of the two, and
// without one d is Queued, so that what must not overtake it does not.
func (d *Delivery) Retry(cause error, at time.Time) {
	d.State, d.Reason, d.Error, d.RunAt = Scheduled, "", cause.Error(), at
	unknown := IsOutcomeUnknown(cause)
	if _, untried := NotTriedUntil(cause); untried {
		n := len(d.Attempts)
		if n == 0 {
			d.State = Queued
			return
		}
		unknown = d.Attempts[n-1].Unknown
	}
	if unknown {
		d.State = Unknown
	}
}

// Bury decides that d failed with cause for good, for the reason that cause
// gives.
func (d *Delivery) Bury(cause error) {
	d.State, d.Reason, d.Error, d.RunAt = Dead, ReasonOf(cause), cause.Error(), time.Time{}
}

// Drop decides that d failed with cause for good and that nobody is to look at
// it.
func (d *Delivery) Drop(cause error) {
	d.Bury(cause)
	d.State = Dropped
}

// Enqueue decides that a worker runs d from a time on.
func (d *Delivery) Enqueue(at time.Time) { d.State, d.RunAt = Queued, at }
