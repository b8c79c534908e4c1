package observer

import "time"

// Pause says why nothing is sent to an endpoint.
type Pause string

// The reasons for a pause.
const (
	// NotPaused endpoints are sent to.
	NotPaused Pause = ""
	// PausedGone: the receiver said that it no longer exists. Only a person ends
	// that.
	PausedGone Pause = "gone"
	// PausedFailing: it has failed for so long that further attempts are spent in
	// vain. It is probed now and then, and the first success ends the pause.
	PausedFailing Pause = "failing"
	// PausedByPerson: somebody said so. Only a person ends that.
	PausedByPerson Pause = "person"
)

// Endpoint is what is known about a receiver, shared by all processes of one
// state store. Endpoints that work are not stored.
type Endpoint struct {
	// Name is what [Preparer] calls it. It contains no secret.
	Name string
	// FailingSince is when it began to fail without a success since; zero when
	// it does not.
	FailingSince time.Time
	// LastError is the last failure, for people.
	LastError string
	// Pause says whether and why nothing is sent there, PausedAt since when.
	Pause    Pause
	PausedAt time.Time
	// UpdatedAt is when the row was stored, by the store's clock. No two rows of a
	// name have the same.
	UpdatedAt time.Time
}
