package middleware

import (
	"context"
	"slices"
	"sync"

	"github.com/fraiseql/observer"
)

// pass is what the lane and the attempts of a first pass tell each other.
type pass struct {
	mu sync.Mutex
	// attempts are those that have ended.
	attempts []observer.Attempt
	// left: the delivery is stored as running, and the lane no longer waits. A
	// claim is one attempt, so no other may follow under it.
	left bool
}

type passKey struct{}

func withPass(ctx context.Context, p *pass) context.Context {
	return context.WithValue(ctx, passKey{}, p)
}

// leave has no further attempt begin, and gives those that have ended.
func (p *pass) leave() []observer.Attempt {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.left = true
	return p.attempts
}

// leftLane takes note of the attempts of d so far, and reports whether the lane
// has left. Without a first pass nobody waits in a lane.
func leftLane(ctx context.Context, d *observer.Delivery) bool {
	p, _ := ctx.Value(passKey{}).(*pass)
	if p == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.attempts = slices.Clone(d.Attempts)
	return p.left
}
