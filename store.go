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
}

// CheckpointStore keeps checkpoints by source name. Implementations must pass
// storetest; they are used concurrently, also by several processes.
type CheckpointStore interface {
	// LoadCheckpoint gives [ErrNotFound] when nothing was saved under name.
	LoadCheckpoint(ctx context.Context, name string) (Checkpoint, error)
	// SaveCheckpoint replaces the checkpoint durably: when it returns nil, a
	// crash of the process does not lose it.
	SaveCheckpoint(ctx context.Context, name string, cp Checkpoint) error
}

// DeliveryStore keeps the deliveries that are not finished. Implementations
// must pass storetest; they are used concurrently, also by several processes.
type DeliveryStore interface {
	// InsertDelivery stores d in d.State, which is Scheduled or Dead; the
	// store sets its times, and it has no lease. It does nothing when the key
	// is there already: the stored one wins, because its request may have
	// been sent. It gives [ErrFull], and stores nothing, when d is dead and
	// the store holds as many dead letters as it may.
	InsertDelivery(ctx context.Context, d *Delivery) error
	// Delivery gives the stored delivery, or [ErrNotFound].
	Delivery(ctx context.Context, key string) (*Delivery, error)
	// Deliveries lists what matches, oldest first.
	Deliveries(ctx context.Context, f DeliveryFilter) ([]*Delivery, error)
	// DeliveryKeys calls each with the key of every stored delivery, in no
	// particular order. each must not call the store.
	DeliveryKeys(ctx context.Context, each func(key string)) error
	// DeliveryStats counts what is stored.
	DeliveryStats(ctx context.Context) (DeliveryStats, error)
	// ClaimDelivery leases one delivery, whatever its state, to owner, which
	// names one claim. It gives [ErrNotFound], or [ErrBusy] when the lease of
	// another owner is running. A lease that ran out is over, whether or not
	// somebody else claimed the delivery since.
	ClaimDelivery(ctx context.Context, key, owner string, lease time.Duration) (*Delivery, error)
	// ClaimDue leases up to limit scheduled deliveries that are due and not
	// leased, the longest due first.
	ClaimDue(ctx context.Context, owner string, lease time.Duration, limit int) ([]*Delivery, error)
	// NextDue is when the next scheduled delivery that nobody runs is due
	// (in the past when one already is), or the end of the first lease of a
	// scheduled delivery if that is earlier; the zero time when there is none.
	NextDue(ctx context.Context) (time.Time, error)
	// ExtendLease prolongs a claim; [ErrBusy] when owner no longer holds it.
	ExtendLease(ctx context.Context, key, owner string, lease time.Duration) error
	// UpdateDelivery stores d, which owner has claimed, and ends the claim;
	// [ErrBusy], storing nothing, when owner does not hold it (any more). It
	// never gives [ErrFull]: the delivery is there already.
	UpdateDelivery(ctx context.Context, d *Delivery, owner string) error
	// CompleteDelivery removes a delivery that owner has claimed and done;
	// [ErrBusy] when owner does not hold it (any more).
	CompleteDelivery(ctx context.Context, key, owner string) error
	// RemoveDelivery discards a delivery; [ErrNotFound], or [ErrBusy] when it
	// is leased.
	RemoveDelivery(ctx context.Context, key string) error
}

// DeliveryFilter selects stored deliveries. Zero fields select everything.
type DeliveryFilter struct {
	State    State
	Observer string
	// Since selects deliveries stored at or after it.
	Since time.Time
	// Offset and Limit page through the result; Limit 0 means no limit.
	Offset, Limit int
}

// DeliveryStats counts stored deliveries.
type DeliveryStats struct {
	Scheduled, Dead int
	// OldestDead is when the oldest dead letter was stored; zero when none.
	OldestDead time.Time
	// DeadByObserver, DeadByReason and DeadByError count dead letters; the last
	// by the text of the last error.
	DeadByObserver map[string]int
	DeadByReason   map[Reason]int
	DeadByError    map[string]int
}

// StateStore is everything the daemon keeps between runs.
type StateStore interface {
	CheckpointStore
	DeliveryStore
	// Close releases the store. Nothing may be called afterwards.
	Close() error
}
