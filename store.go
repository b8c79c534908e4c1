package observer

import (
	"context"
	"time"
)

// Checkpoint says how far a log has been handled.
type Checkpoint struct {
	// Position: every event at or before it is handled.
	Position Position
	// Done are the ids of entries after Position that are handled too, so that
	// a restart does not repeat what finished behind a slow one.
	Done []string
	// SavedAt is when it was stored, by the store's clock. Save ignores it.
	SavedAt time.Time
	// Term, when it is not zero, has SaveCheckpoint store only while the lease
	// Lease has this term. Lease is the name of the checkpoint when it is empty. Load
	// gives neither.
	Term  int64
	Lease string
}

// CheckpointStore keeps checkpoints by source name. Implementations must pass
// storetest; they are used concurrently, also by several processes.
type CheckpointStore interface {
	// LoadCheckpoint gives [ErrNotFound] when nothing was saved under name.
	LoadCheckpoint(ctx context.Context, name string) (Checkpoint, error)
	// SaveCheckpoint replaces the checkpoint durably: when it returns nil, a
	// crash of the process does not lose it. When the lease has another term than
	// that of cp, or was released, the error matches [ErrFenced] and nothing is
	// stored. Whoever acquires the lease meanwhile loads what was saved before, or
	// it is not saved.
	SaveCheckpoint(ctx context.Context, name string, cp Checkpoint) error
}

// DeliveryStore keeps the deliveries that were not finished on their first
// pass, and for a while those of them that are finished by now. Implementations
// must pass storetest; they are used concurrently, also by several processes.
//
// A stored delivery follows the arrows of [State.Next]. All times are by the
// clock of the store.
type DeliveryStore interface {
	// InsertDeliveries stores deliveries in their State, which is Queued,
	// Scheduled, Unknown or Dead: all or none of them, in this order. It skips
	// those whose key is there already: the stored one wins, because its request
	// may have been sent. It sets the State of a delivery to Parked, and stores
	// it so, when an earlier one of its lane blocks it (see [Delivery.Blocks]);
	// dead ones are never parked. stored is how many were not skipped. It gives
	// [ErrFull] when the store has no room for the dead ones among them.
	InsertDeliveries(ctx context.Context, ds ...*Delivery) (stored int, err error)
	// BeginDelivery stores a delivery that its caller runs: State Running, leased
	// to owner, ClaimedFrom Unknown, with one claim counted. It ends like a claimed
	// one. begun is false, and nothing is stored, when the key is there already.
	BeginDelivery(ctx context.Context, d *Delivery, owner string, lease time.Duration) (begun bool, err error)
	// Delivery gives the stored delivery, or [ErrNotFound].
	Delivery(ctx context.Context, key string) (*Delivery, error)
	// Deliveries lists what matches, oldest first.
	Deliveries(ctx context.Context, f DeliveryFilter) ([]*Delivery, error)
	// DeliveryKeys calls each with the key of every stored delivery, in no
	// particular order, and with its lane where it blocks that, else "". each
	// must not call the store.
	DeliveryKeys(ctx context.Context, each func(key, lane string)) error
	// Blocked reports whether a stored delivery of another event blocks lane.
	Blocked(ctx context.Context, lane, eventID string) (bool, error)
	// DeliveryStats counts what is stored.
	DeliveryStats(ctx context.Context) (DeliveryStats, error)
	// ClaimDelivery leases one delivery, whatever its state unless it is Done or
	// Dropped ([ErrNotFound], as when there is none), to owner, which names one
	// claim. [ErrBusy] when the lease of another owner is running. A lease that
	// ran out is over, whether or not somebody else claimed the delivery since;
	// the delivery is then where it was when it was claimed, with that claim
	// counted in Lost at the next one. A Dead delivery in strict order blocks its
	// lane from the claim on until that ends: what is parked there stays parked, and
	// what is stored then is parked, but what left before the claim goes on. When
	// the claim is lost the lane is blocked until the next PruneDeliveries.
	ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*Delivery, error)
	// ClaimDue leases deliveries that are due and not leased: see [Claim].
	ClaimDue(ctx context.Context, c Claim) ([]*Delivery, error)
	// NextDue is when the next delivery that nobody runs is due (in the past when
	// one already is), or the end of the first lease of a due delivery if that
	// is earlier; the zero time when there is none. It leaves out what has no
	// room; a nil room leaves out nothing.
	NextDue(ctx context.Context, room Room) (time.Time, error)
	// ExtendLease prolongs a claim; [ErrBusy] when owner no longer holds it.
	ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error
	// UpdateDelivery stores d, which owner has claimed, in its State, which is
	// not Running, and ends the claim; [ErrBusy], storing nothing, when owner
	// does not hold it (any more). Repeated by the owner whose claim ended so, as
	// when the answer was lost, with the same state and attempts and before another
	// claim, it changes nothing and gives nil. Finished deliveries stay until they are
	// pruned. It never gives [ErrFull]: the delivery is there already. When d
	// blocked its lane and does so no longer, the parked deliveries of the next
	// event in the lane are queued.
	UpdateDelivery(ctx context.Context, d *Delivery, owner string) error
	// RequeueDelivery has a worker run a Dead, Scheduled or Unknown delivery from
	// a time on, and gives its new state: Queued, or Parked when an earlier one
	// of its lane blocks it. It counts a redrive when it was dead. Its place in
	// the lane is the one it had. [ErrNotFound] when it is not there or in
	// another state, [ErrBusy] when it is leased.
	RequeueDelivery(ctx context.Context, key string, at time.Time) (State, error)
	// RemoveDelivery discards a delivery; [ErrNotFound], or [ErrBusy] when it is
	// leased. Its lane goes on as after an update.
	RemoveDelivery(ctx context.Context, key string) error
	// PruneDeliveries removes up to limit deliveries that are finished and were
	// last updated before the times of r, Done and Dropped ones first: while one of
	// them is left that may go, no dead one goes. Dead ones that block a lane stay.
	// It also ends the blocking by lost claims of dead ones, and queues parked
	// deliveries whose lane nothing blocks, which else only a change made behind the
	// store's back can leave: it is to be called every minute or so, also by who
	// keeps everything. When that part fails the rest is done all the same: removed
	// counts beside an error, too.
	PruneDeliveries(ctx context.Context, r Retention, limit int) (removed int, err error)
	// Endpoints lists the stored endpoints by name; SaveEndpoint stores one, or
	// removes it when it neither fails nor is paused. Its UpdatedAt is that of the
	// row that it replaces, zero where there was none: [ErrBusy], storing nothing,
	// when somebody stored another one since.
	Endpoints(ctx context.Context) ([]Endpoint, error)
	SaveEndpoint(ctx context.Context, e Endpoint) error
}

// Room says how many more deliveries of a queue to an endpoint may be claimed.
// It is asked about every combination that the store has seen, with nothing
// locked that it could wait for.
type Room func(queue, endpoint string) int

// Claim says what to lease.
type Claim struct {
	// Owner names this one claim, Lease is how long it holds.
	Owner string
	Lease time.Duration
	// Limit is how many deliveries to lease in all. Queues and endpoints take
	// turns: a second one of one of them is leased only when no other has a
	// first one left to lease, and so on. Among those of one queue and endpoint
	// the lower Priority goes first, then what has been due longer.
	Limit int
	// Room bounds each combination of queue and endpoint; nil does not.
	Room Room
}

// Retention says until when finished deliveries are kept. A zero time removes
// nothing.
type Retention struct {
	// DoneBefore removes Done and Dropped deliveries, DeadBefore dead letters,
	// that were last updated before it.
	DoneBefore, DeadBefore time.Time
}

// DeliveryFilter selects stored deliveries. Zero fields select everything.
type DeliveryFilter struct {
	State    State
	Observer string
	// Action is the index of the action; nil selects all.
	Action *int
	// ActionType, Queue and Endpoint select what has these.
	ActionType, Queue, Endpoint string
	// EntityType and EntityID are those of the event or malformed entry.
	EntityType, EntityID string
	// EventID selects the deliveries of one event.
	EventID string
	Reason  Reason
	// Fingerprint selects by the [Fingerprint] of the last error.
	Fingerprint string
	// Since and Until select deliveries stored at or after, and before it.
	Since, Until time.Time
	// Offset and Limit page through the result; Limit 0 means no limit.
	Offset, Limit int
}

// DeliveryStats counts stored deliveries.
type DeliveryStats struct {
	// States counts by state; leased ones count as Running only. States with
	// none are absent.
	States map[State]int
	// OldestDead is when the oldest dead letter was stored; zero when none.
	OldestDead time.Time
	// OldestDue is since when the longest waiting due delivery is due; zero when
	// none is.
	OldestDue time.Time
	// DeadByObserver, DeadByReason and DeadByError count dead letters; the last
	// by the fingerprint of the last error. It has the 1,000 most frequent ones, and
	// of those that are as frequent the first by fingerprint: errors may all be
	// different.
	DeadByObserver map[string]int
	DeadByReason   map[Reason]int
	DeadByError    map[string]ErrorCount
	// Waiting counts unfinished deliveries by endpoint.
	Waiting map[string]int
}

// ErrorCount counts dead letters whose errors have the same fingerprint.
type ErrorCount struct {
	Count int
	// Example is one of the errors.
	Example string
}

// StateStore is everything the daemon keeps between runs.
type StateStore interface {
	CheckpointStore
	DeliveryStore
	DedupStateStore
	LeaseStore
	ReceiptStore
	// Close releases the store. Nothing may be called afterwards.
	Close() error
}
