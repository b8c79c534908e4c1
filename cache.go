package observer

import (
	"context"
	"time"
)

// Cache keeps values for a time. It may forget any of them before that, and
// whoever uses it must be able to do without. Implementations must pass
// cachetest; they are called concurrently.
type Cache[V any] interface {
	// Get gives the value of a key; found is false when there is none, or its
	// time is over. An error says that this could not be found out: it is given
	// within a short time, however the ctx is.
	Get(ctx context.Context, key string) (value V, found bool, err error)
	// Set keeps a value for ttl, in place of the one before. Once it has returned
	// without an error, [Cache.Get] of the same process gives no older one.
	Set(ctx context.Context, key string, value V, ttl time.Duration) error
}
