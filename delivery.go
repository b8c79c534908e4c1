package observer

import (
	"encoding/json"
	"slices"
	"strconv"
	"time"
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
	// ReasonOutcomeUnknown: it was sent and not answered, and the action says not
	// to send it again: it may have arrived.
	ReasonOutcomeUnknown Reason = "outcome_unknown"
	// ReasonExpired: it was not delivered before it was too old.
	ReasonExpired Reason = "expired"
	// ReasonFallback: its endpoint took no attempts, and the fallback of its action
	// runs in its place. It is the reason of a Dropped delivery, never of a dead one.
	ReasonFallback Reason = "fallback"
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
	// Prints are fingerprints of all actions of the observer when the event
	// matched, by index, so that the action is found again after somebody
	// reordered them; nil when unknown.
	Prints []string
	// Request is the rendered request in the action's own JSON form, set by the
	// action before its first attempt. It holds no secret.
	Request json.RawMessage
	// Attempts are the tries so far, oldest first.
	Attempts []Attempt

	// Queue limits how many deliveries run at once and Endpoint says who
	// receives this one; workers share out their places evenly over both. Either
	// may be "".
	Queue, Endpoint string
	// Priority orders what is due for the same queue and endpoint: 1 goes first,
	// 4 last. 0 counts as [DefaultPriority].
	Priority int
	// Order says what may overtake what; "" is [OrderNone]. With OrderStrict and
	// BlockWhenDead a dead letter keeps what is behind it parked.
	Order         Order
	BlockWhenDead bool

	// State, Reason and Error say where it stands, and why.
	State  State
	Reason Reason
	Error  string
	// RunAt is when a delivery is due whose [State.Due] is true.
	RunAt time.Time
	// Redrives counts how often a person had it run again.
	Redrives int
	// EditedAt is when a person last changed the request; zero when nobody did.
	EditedAt time.Time
	// CreatedAt and UpdatedAt are when the row was first and last stored.
	CreatedAt, UpdatedAt time.Time

	// LeaseOwner runs the delivery until LeaseUntil; "" when nobody does.
	LeaseOwner string
	LeaseUntil time.Time
	// ClaimedFrom is the state in which it was claimed. The store sets it, with
	// ClaimedAt, when it hands out a claim, and whenever State is Running.
	ClaimedFrom State
	ClaimedAt   time.Time
	// Lost counts the claims before the present one that ended without an
	// outcome, because whoever held them died. Each was an attempt, of which
	// nobody knows how far it came; LostAt is when the last of them began.
	Lost   int
	LostAt time.Time
}

// The priorities of deliveries.
const (
	FirstPriority   = 1
	DefaultPriority = 2
	LastPriority    = 4
)

// Clone is a copy of d that shares nothing that changes with it.
func (d *Delivery) Clone() *Delivery {
	c := *d
	c.Attempts = slices.Clone(d.Attempts)
	return &c
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
