package middleware

import (
	"context"
	"fmt"
	"runtime/debug"

	"github.com/fraiseql/observer"
)

// maxStack bounds the stack that a panic leaves in the attempt's record.
const maxStack = 4 << 10

// Recover turns a panic of the action into a failed attempt that keeps the
// stack. One broken action must not end the process of all others.
func Recover() observer.Middleware[observer.Action] {
	return func(next observer.Action) observer.Action {
		return observer.ActionFunc(func(ctx context.Context, d *observer.Delivery) (result observer.Result, err error) {
			defer func() {
				if cause := recover(); cause != nil {
					stack := debug.Stack()
					result = observer.Result{Detail: string(stack[:min(len(stack), maxStack)])}
					err = fmt.Errorf("the action panicked: %v", cause)
				}
			}()
			return next.Execute(ctx, d)
		})
	}
}
