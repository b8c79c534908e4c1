package observer

import "slices"

// Middleware wraps a T (a [Handler], an [Action]) in behaviour.
type Middleware[T any] func(next T) T

// Chain composes middleware, outermost first, into one.
func Chain[T any](ms ...Middleware[T]) Middleware[T] {
	return func(next T) T {
		for _, m := range slices.Backward(ms) {
			next = m(next)
		}
		return next
	}
}
