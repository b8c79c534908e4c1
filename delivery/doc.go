// Package delivery runs the deliveries that are kept in the state store. A
// [Worker] runs those that are due, [Redrive] one that a person names, and
// [Worker.Begin] keeps the lease of one that its first pass still runs. All lease
// a delivery, run it and store how it ended, so any number of processes can
// share one store and each delivery runs once at a time.
//
//	first pass --park-----------------------> parked
//	  | | |                                     | the lane is free
//	  | | +------enqueue-------> queued <-------+
//	  | |                          | claim
//	  | +--begin-----------> +-----v-----+ <---claim--- scheduled, unknown
//	  |                      |  running  | ----failed, not answered---> ^
//	  |                      +-----------+ ----lease lost: back to where it was
//	  v                       |    |    |
//	done, dropped, <----------+    |    +--> dead --requeue--> queued, parked
//	scheduled, unknown, dead       |           ^ |
//	                               v           | +--redrive--> running
//	                         done, dropped     +-- failed for good
//
// An attempt begins with its claim. A claim that ended without an outcome,
// because its process died, is recorded as an attempt whose outcome nobody knows
// by whoever claims the delivery next; so the recorded attempts are those that
// may have reached the receiver. What was claimed and not begun is given back
// and was no attempt.
//
// A worker claims only what it can begin at once, and shares out its places: a
// queue has at most its limit of them, an endpoint at most three quarters, one
// that fails hard a tenth, one that is paused none. [Endpoints] knows which is
// which. What is due for others is therefore never behind what waits for an
// endpoint that hangs.
//
// An outcome that the store does not take is kept and offered until it does, and
// nothing new is claimed before.
package delivery
