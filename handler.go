package observer

import "context"

// Handler takes events. It returns nil when the effects of the event are done
// or durably recorded elsewhere (dead-lettered, deferred), and an error when
// the same event must be handed over again. It is called concurrently for
// events of different entities, and one at a time, in commit order, for events
// of one entity.
type Handler interface {
	Handle(ctx context.Context, e *Event) error
}

// HandlerFunc is a function that is a [Handler].
type HandlerFunc func(ctx context.Context, e *Event) error

// Handle calls f.
func (f HandlerFunc) Handle(ctx context.Context, e *Event) error { return f(ctx, e) }

type drainKey struct{}

// WithDrain returns a context that carries the news that the process wants to
// stop. Work that has begun goes on under ctx; waiting should end early when
// drain is closed, with what was waited for stored durably.
func WithDrain(ctx context.Context, drain <-chan struct{}) context.Context {
	return context.WithValue(ctx, drainKey{}, drain)
}

// Drain returns the channel that is closed when the process wants to stop, or
// nil (which never becomes ready) when ctx carries none.
func Drain(ctx context.Context) <-chan struct{} {
	drain, _ := ctx.Value(drainKey{}).(<-chan struct{})
	return drain
}
