// Package failpoint ends the process at named places, so that tests can show
// what a crash there leaves behind. Without the build tag failpoints a place is
// an empty function that the compiler removes.
//
// The variable FRAISEQL_FAILPOINT names a place and how often it is passed
// before: "answered:3" kills the process with SIGKILL when it reaches answered
// for the third time.
package failpoint

// The places, in the order in which a delivery passes them.
const (
	// Stored: a delivery of the first pass is in the store, and its event is not
	// known to be handled.
	Stored = "stored"
	// Begun: a delivery is stored as running, before or during its first attempt.
	Begun = "begun"
	// Claimed: a worker has claimed deliveries and begun none.
	Claimed = "claimed"
	// Attempt: an attempt begins.
	Attempt = "attempt"
	// Answered: an attempt has ended, and nothing of it is recorded.
	Answered = "answered"
	// Settled: the outcome of a stored delivery is recorded.
	Settled = "settled"
	// Requeued: one of several dead letters was given to the workers.
	Requeued = "requeued"
)
