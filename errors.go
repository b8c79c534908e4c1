package observer

import (
	"errors"
	"time"
)

// Errors that callers branch on.
var (
	// ErrNotFound: the checkpoint, delivery or log entry asked for is not there.
	ErrNotFound = errors.New("not found")
	// ErrBusy: the delivery is being run, or the lease held, by somebody else right
	// now.
	ErrBusy = errors.New("being run by another process")
	// ErrFull: the store holds as many dead letters as it may.
	ErrFull = errors.New("dead letters are full")
	// ErrFenced: somebody else may hold the lease under which this was done.
	ErrFenced = errors.New("the lease was lost")
)

// Permanent marks err as one that trying again cannot mend, and says why the
// delivery is dead. A nil err stays nil.
func Permanent(reason Reason, err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{reason: reason, err: err}
}

type permanentError struct {
	reason Reason
	err    error
}

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// RetryAfter marks err as transient with a time the other side asked to wait.
// A nil err stays nil.
func RetryAfter(err error, wait time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryAfterError{wait: wait, err: err}
}

type retryAfterError struct {
	wait time.Duration
	err  error
}

func (e *retryAfterError) Error() string { return e.err.Error() }
func (e *retryAfterError) Unwrap() error { return e.err }

// OutcomeUnknown marks err as a failure of which nobody here can know whether it
// took effect: the request was sent and not answered. A nil err stays nil.
func OutcomeUnknown(err error) error {
	if err == nil {
		return nil
	}
	return &unknownError{err: err}
}

type unknownError struct{ err error }

func (e *unknownError) Error() string { return e.err.Error() }
func (e *unknownError) Unwrap() error { return e.err }

// IsOutcomeUnknown reports whether err is marked [OutcomeUnknown].
func IsOutcomeUnknown(err error) bool {
	_, unknown := errors.AsType[*unknownError](err)
	return unknown
}

// Deferred marks err as one whose next try is due at a time too far away to wait
// for in the lane, or after a restart. A nil err stays nil.
func Deferred(err error, until time.Time) error {
	if err == nil {
		return nil
	}
	return &deferredError{until: until, err: err}
}

type deferredError struct {
	until time.Time
	err   error
}

func (e *deferredError) Error() string { return e.err.Error() }
func (e *deferredError) Unwrap() error { return e.err }

// DeferredUntil is when the next try is due, if err is marked [Deferred].
func DeferredUntil(err error) (time.Time, bool) {
	if d, ok := errors.AsType[*deferredError](err); ok {
		return d.until, true
	}
	return time.Time{}, false
}

// NotTried marks err as one of an attempt that was not made, because its endpoint
// takes none now, and says from when on it may be made. It is no attempt: nothing
// is recorded and none is used up. A nil err stays nil.
func NotTried(err error, until time.Time) error {
	if err == nil {
		return nil
	}
	return &notTriedError{until: until, err: err}
}

type notTriedError struct {
	until time.Time
	err   error
}

func (e *notTriedError) Error() string { return e.err.Error() }
func (e *notTriedError) Unwrap() error { return e.err }

// NotTriedUntil is from when on an attempt may be made, if err is marked
// [NotTried].
func NotTriedUntil(err error) (time.Time, bool) {
	if n, ok := errors.AsType[*notTriedError](err); ok {
		return n.until, true
	}
	return time.Time{}, false
}

// Partly marks err as one of a [BatchHandler] that has handled the first n events:
// they need not come again. A nil err stays nil.
func Partly(n int, err error) error {
	if err == nil {
		return nil
	}
	return &partlyError{n: n, err: err}
}

type partlyError struct {
	n   int
	err error
}

func (e *partlyError) Error() string { return e.err.Error() }
func (e *partlyError) Unwrap() error { return e.err }

// PartlyOf is how many of the first events are handled, if err is marked
// [Partly]; else none is known to be.
func PartlyOf(err error) int {
	if p, ok := errors.AsType[*partlyError](err); ok {
		return max(p.n, 0)
	}
	return 0
}

// Retryable reports whether trying again can help. Errors are retryable unless
// marked [Permanent]: giving up on what would have passed loses work, trying
// once more in vain does not.
func Retryable(err error) bool {
	_, permanent := errors.AsType[*permanentError](err)
	return err != nil && !permanent
}

// RetryAfterOf is the wait that the other side asked for, if it did.
func RetryAfterOf(err error) (time.Duration, bool) {
	if r, ok := errors.AsType[*retryAfterError](err); ok {
		return r.wait, true
	}
	return 0, false
}

// ReasonOf is the reason err gives for a dead letter: that of [Permanent], else
// [ReasonExhausted].
func ReasonOf(err error) Reason {
	if p, ok := errors.AsType[*permanentError](err); ok {
		return p.reason
	}
	return ReasonExhausted
}

// FieldError is an invalid value in a configuration, reported by the package
// that owns the key, so that the loader can say in which line it stands.
// Several are joined with errors.Join.
type FieldError struct {
	// Field is the key as the user writes it, such as "body_template".
	Field string
	Err   error
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }
