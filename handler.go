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

// BatchHandler is implemented by handlers that take many events at once, in the
// order of their log. A relay then calls HandleBatch in place of Handle, one
// call at a time. nil means that every event is handled; an error that none is
// known to be, or only the first ones where it is marked [Partly]: the others come
// again, in the same order, and more may follow in the same call.
type BatchHandler interface {
	Handler
	HandleBatch(ctx context.Context, events []*Event) error
}

type fenceKey struct{}

// WithFence returns a context whose work may begin something only while fence
// gives nil. fence may block while that is not known, until the ctx of its call
// ends; an error that matches [ErrFenced] is final. It may be called
// concurrently and often.
func WithFence(ctx context.Context, fence func(ctx context.Context) error) context.Context {
	return context.WithValue(ctx, fenceKey{}, fence)
}

// Fence asks the fence of ctx whether something may begin now; without one it
// may.
func Fence(ctx context.Context) error {
	fence, _ := ctx.Value(fenceKey{}).(func(context.Context) error)
	if fence == nil {
		return nil
	}
	return fence(ctx)
}

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
