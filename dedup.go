package observer

import (
	"context"
	"time"
)

// DedupClaim is one handling of a delivery on its first pass.
type DedupClaim struct {
	// Key names the delivery. It has at most 1,000 bytes.
	Key string
	// Owner names this one handling: no other has the same, in any process.
	Owner string
}

// DedupStanding says where a delivery stands that somebody wants to handle.
type DedupStanding string

// The answers to a claim.
const (
	// DedupClaimed: whoever asked may handle it, until the lease ends.
	DedupClaimed DedupStanding = "claimed"
	// DedupBusy: another handling of it is under way.
	DedupBusy DedupStanding = "busy"
	// DedupDone: it has been handled.
	DedupDone DedupStanding = "done"
)

// DedupAnswer is the answer to a claim.
type DedupAnswer struct {
	Standing DedupStanding
	// Wait is how long the lease of the other handling lasts, and Owner names it, when
	// there is one. Both may be zero when it has just ended.
	Wait  time.Duration
	Owner string
}

// DedupMark says that a delivery was handled, and for how long to remember it.
type DedupMark struct {
	Key  string
	Keep time.Duration
}

// DedupStore knows which deliveries are being handled and which were.
// Implementations must pass deduptest; they are used concurrently, also by
// several processes. Each call is atomic for each of its keys.
type DedupStore interface {
	// ClaimDedup leases a delivery that nobody handles and nobody has handled.
	// Claiming again under the same owner renews the lease, also one that ran out
	// before anybody else claimed. A lease that ran out is over.
	ClaimDedup(ctx context.Context, c DedupClaim, lease time.Duration) (DedupAnswer, error)
	// FinishDedup remembers that deliveries were handled, from now on for at least
	// as long as their marks say, and ends every claim of them. It asks for no
	// claim: that something was handled is true whoever handled it, and stays
	// true when a lease ran out meanwhile.
	FinishDedup(ctx context.Context, marks ...DedupMark) error
	// ReleaseDedup ends a claim of a delivery that could not be handled. It does
	// nothing when the owner does not hold it (any more).
	ReleaseDedup(ctx context.Context, c DedupClaim) error
}

// DedupPlace says where claims are made when a fast store, which may forget,
// stands in front of the state store.
type DedupPlace string

// The places.
const (
	// DedupInState: claims and marks are in the state store only.
	DedupInState DedupPlace = "state"
	// DedupFilling: claims are in the state store, and marks are in both.
	DedupFilling DedupPlace = "filling"
	// DedupInFront: claims are in the fast store; marks reach the state store
	// soon.
	DedupInFront DedupPlace = "front"
)

// DedupView is what all processes agree upon about where claims are made.
type DedupView struct {
	// Generation counts the changes of the rest.
	Generation int64
	Place      DedupPlace
	// Epoch names what the fast store remembers; "" when nothing in it counts.
	Epoch string
	// Agreed: every session that has not ended adopted this generation.
	Agreed bool
}

// DedupStateStore is a [DedupStore] that forgets nothing, and keeps what the
// processes agree upon. Leases and sessions follow the clock of the store.
type DedupStateStore interface {
	DedupStore
	// DedupMarks lists up to limit deliveries that were handled and are not to be
	// forgotten yet, by key, after a key, with how long to remember them still.
	DedupMarks(ctx context.Context, after string, limit int) ([]DedupMark, error)
	// DedupView is the present view. That of a new store has claims in the state
	// store.
	DedupView(ctx context.Context) (DedupView, error)
	// ChangeDedupView stores a view as the next generation after from. changed is
	// false, and nothing is stored, when from is not the present one any more.
	ChangeDedupView(ctx context.Context, from int64, place DedupPlace, epoch string) (changed bool, err error)
	// HoldDedupSession begins a session, or prolongs it, and stores which
	// generation it has adopted; EndDedupSession ends it at once. A session is
	// one life of a process.
	HoldDedupSession(ctx context.Context, session string, adopted int64, lease time.Duration) error
	EndDedupSession(ctx context.Context, session string) error
	// PruneDedup looks at the oldest limit rows at least, and removes those that
	// are of no use any more: marks that were kept for long enough, claims and
	// sessions that ended. There may be more as long as it removes any.
	PruneDedup(ctx context.Context, limit int) (removed int, err error)
}
