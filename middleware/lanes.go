package middleware

import (
	"context"
	"hash/maphash"
	"sync"
)

// Lanes knows in which lanes something stored may block later deliveries, in a
// few bytes each, so that the store is asked about those only and not for every
// delivery of every event. It is safe for concurrent use.
type Lanes struct {
	// blocked is observer.DeliveryStore.Blocked.
	blocked func(ctx context.Context, lane, eventID string) (bool, error)
	seed    maphash.Seed

	mu sync.Mutex
	// suspects counts what was added to each lane, so that a lane is not struck
	// off for an answer that is older than the last addition.
	suspects map[uint64]uint64
}

func newLanes(blocked func(ctx context.Context, lane, eventID string) (bool, error)) *Lanes {
	return &Lanes{blocked: blocked, seed: maphash.MakeSeed(), suspects: map[uint64]uint64{}}
}

// Add notes that a delivery which blocks lane was stored.
func (l *Lanes) Add(lane string) {
	if lane == "" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.suspects[maphash.String(l.seed, lane)]++
}

// Blocked reports whether something of another event is stored that must be
// sent before what is to come in lane.
func (l *Lanes) Blocked(ctx context.Context, lane, eventID string) (bool, error) {
	if lane == "" {
		return false, nil
	}
	hash := maphash.String(l.seed, lane)
	l.mu.Lock()
	additions, suspect := l.suspects[hash]
	l.mu.Unlock()
	if !suspect {
		return false, nil
	}
	blocked, err := l.blocked(ctx, lane, eventID)
	if blocked || err != nil {
		return blocked, err
	}
	if own, err := l.blocked(ctx, lane, ""); own || err != nil {
		return false, err // the deliveries of this very event block those after it
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.suspects[hash] == additions {
		delete(l.suspects, hash)
	}
	return false, nil
}
