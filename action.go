package observer

import (
	"context"
	"time"
)

// Action does one thing to the outside world for a delivery: a webhook call, an
// email. Implementations must pass actiontest; they are called concurrently.
//
// Execute renders its request into d.Request before the first attempt has any
// effect and uses what it finds there on later attempts, so that one key always
// means one body. It makes one attempt: retries, timeouts and dead letters are
// middleware. Errors say whether trying again can help ([Permanent],
// [RetryAfter]) and contain no secret.
//
// One that keeps connections is also an [io.Closer]. Close is called when its
// configuration was replaced or the process ends; deliveries that have it
// already still run, and the last of them closes what it used.
type Action interface {
	Execute(ctx context.Context, d *Delivery) (Result, error)
}

// Preparer is an [Action] that can render its request without sending it and
// knows who receives it. Actions that reach out implement it; one that does not
// is taken to have no receiver that could be slow or fail apart from others.
type Preparer interface {
	Action
	// Prepare renders the request of d into d.Request unless it is there
	// already. Execute then sends just that. Its errors are those of rendering.
	Prepare(ctx context.Context, d *Delivery) error
	// Endpoint names who receives the request of d: the same text for all
	// deliveries that share the fate of one receiver, without secrets, cheap to
	// compute. "" when that cannot be told (Execute then says why).
	Endpoint(ctx context.Context, d *Delivery) string
}

// Identifier is a [Preparer] that can tell equal requests, whichever delivery
// they are of.
type Identifier interface {
	Preparer
	// Identity is a digest of all that the request of d says and to whom. It is
	// the same for two deliveries when the same would be sent, apart from what
	// names the delivery or the attempt (a key, a signature, the time of sending),
	// and another one otherwise. No secret can be read from it. It renders the
	// request into d.Request as Prepare does, and its errors are those of rendering.
	Identity(ctx context.Context, d *Delivery) (string, error)
}

// ActionFunc is a function that is an [Action].
type ActionFunc func(ctx context.Context, d *Delivery) (Result, error)

// Execute calls f.
func (f ActionFunc) Execute(ctx context.Context, d *Delivery) (Result, error) { return f(ctx, d) }

// Result is what the other side answered.
type Result struct {
	// Status is the protocol's own code (HTTP status, SMTP reply); 0 where the
	// protocol has none or nothing was answered.
	Status int
	// Detail is a short text for people, such as the beginning of an answer.
	// It contains no secret.
	Detail string
}

// Attempt is one try of a delivery, as recorded.
type Attempt struct {
	// Number counts from 1 over the life of the delivery, redrives included.
	Number int `json:"number"`
	// At is when the attempt began.
	At time.Time `json:"at"`
	// Duration is how long it took.
	Duration time.Duration `json:"duration_ns"`
	// Status and Detail are from the [Result].
	Status int    `json:"status,omitempty"`
	Detail string `json:"detail,omitempty"`
	// Error is why it failed; "" when it succeeded.
	Error string `json:"error,omitempty"`
	// Unknown: the request was sent and not answered, or the process that made
	// the attempt died.
	Unknown bool `json:"unknown,omitempty"`
	// Cached: nothing was sent, because an equal request had succeeded; Detail says
	// when.
	Cached bool `json:"cached,omitempty"`
	// Stack is where the action panicked.
	Stack string `json:"stack,omitempty"`
}
