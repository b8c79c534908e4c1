package observer

import (
	"encoding/json"
	"strconv"
	"time"
)

// State is where a delivery stands. Only [Scheduled] and [Dead] deliveries are
// stored; the zero State has not been decided yet.
type State string

// The states of a delivery.
const (
	// Done deliveries succeeded.
	Done State = "done"
	// Dropped deliveries failed, and their observer said to log that and go on.
	Dropped State = "dropped"
	// Scheduled deliveries are tried again at RunAt.
	Scheduled State = "scheduled"
	// Dead deliveries wait for a person: redrive or remove.
	Dead State = "dead"
)

// Reason says why a delivery is dead, in one word that metrics and filters use.
type Reason string

// The reasons for a dead letter.
const (
	// ReasonExhausted: every attempt failed with an error that could have passed.
	ReasonExhausted Reason = "exhausted"
	// ReasonPermanent: the error says that trying again cannot help.
	ReasonPermanent Reason = "permanent"
	// ReasonGone: the receiver says it no longer exists (HTTP 410).
	ReasonGone Reason = "gone"
	// ReasonCondition: the observer's condition could not be evaluated.
	ReasonCondition Reason = "condition"
	// ReasonTemplate: a template could not be rendered.
	ReasonTemplate Reason = "template"
	// ReasonTooLarge: the rendered request exceeds the size cap.
	ReasonTooLarge Reason = "too_large"
	// ReasonMalformed: the log entry is not a valid event.
	ReasonMalformed Reason = "malformed"
	// ReasonUnconfigured: its observer or action is no longer configured.
	ReasonUnconfigured Reason = "unconfigured"
)

// Delivery is one event for one action of one observer: the unit of work after
// matching. The same value goes down the chain of middleware, into the state
// store when it is not finished on the first pass, and to the people who look
// at it. It is used by one goroutine at a time.
type Delivery struct {
	// Key identifies the delivery: see [DeliveryKey].
	Key string
	// Event is the change; nil for a malformed log entry.
	Event *Event
	// Malformed is the log entry that could not be understood, else nil.
	Malformed *Malformed
	// Observer and Action name the action: the observer's name and the index of
	// the action in it, from 0.
	Observer string
	Action   int
	// ActionType is the kind of action, such as "webhook".
	ActionType string
	// Request is the rendered request in the action's own JSON form, set by the
	// action before its first attempt. It holds no secret.
	Request json.RawMessage
	// Attempts are the tries so far, oldest first.
	Attempts []Attempt

	// State, Reason and Error say where it stands, and why.
	State  State
	Reason Reason
	Error  string
	// RunAt is when a scheduled delivery is due.
	RunAt time.Time
	// CreatedAt and UpdatedAt are when the row was first and last stored.
	CreatedAt, UpdatedAt time.Time
	// LeaseOwner runs the delivery until LeaseUntil; "" when nobody does.
	LeaseOwner string
	LeaseUntil time.Time
}

// DeliveryKey is the identity of a delivery: event id, observer and action
// index. It is the deduplication key, the idempotency key sent to the receiver
// and the primary key of the stored row.
func DeliveryKey(eventID, observer string, action int) string {
	return eventID + "/" + observer + "/" + strconv.Itoa(action)
}

// NewDelivery is the delivery of e to an action that has not been tried.
func NewDelivery(e *Event, observer string, action int, actionType string) *Delivery {
	return &Delivery{
		Key: DeliveryKey(e.ID, observer, action), Event: e,
		Observer: observer, Action: action, ActionType: actionType,
	}
}
