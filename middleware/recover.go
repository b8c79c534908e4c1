package middleware

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/fraiseql/observer"
)

// maxStack bounds the stack that a panic leaves in the attempt's record.
const maxStack = 4 << 10

// panicError is a panic of an action.
type panicError struct {
	cause any
	stack string
}

func (e *panicError) Error() string { return fmt.Sprintf("the action panicked: %v", e.cause) }

// stackOf is where the action panicked, if err is a panic.
func stackOf(err error) string {
	if p, ok := errors.AsType[*panicError](err); ok {
		return p.stack
	}
	return ""
}

// Recover turns a panic of the action into a failed attempt that keeps the
// stack. One broken action must not end the process of all others.
func Recover() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (result observer.Result, err error) {
			defer recovered(&err)
			return next.Execute(ctx, d)
		})
	}
}

// recovered, deferred, makes an error of a panic.
func recovered(err *error) {
	if cause := recover(); cause != nil {
		stack := debug.Stack()
		*err = &panicError{cause: cause, stack: string(stack[:min(len(stack), maxStack)])}
	}
}
