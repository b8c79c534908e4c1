package delivery

import (
	"context"
	"math"
	"time"
)

// Traffic is what bounds attempts in this process beside the health that
// [Endpoints] knows: circuit breakers and limits. Of several bounds the narrowest
// holds. Its methods never call back.
type Traffic interface {
	// Look is called before the worker looks for what is due, and the function it
	// gives after that. more says that there may be more.
	Look() (looked func(more bool))
	// Allowance is how many more attempts at an endpoint may begin now.
	Allowance(endpoint string) int
	// Opens is when time alone next lets one begin somewhere, zero when it will not.
	Opens() time.Time
	// Admit takes what an attempt needs, which runs under the context it gives.
	// leave is called at its end. ok is false when it may not begin.
	Admit(ctx context.Context, endpoint string) (admitted context.Context, leave func(), ok bool)
}

// free bounds nothing.
type free struct{}

func (free) Look() func(bool)     { return func(bool) {} }
func (free) Allowance(string) int { return math.MaxInt }
func (free) Opens() time.Time     { return time.Time{} }
func (free) Admit(ctx context.Context, _ string) (context.Context, func(), bool) {
	return ctx, func() {}, true
}
