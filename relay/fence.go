package relay

import (
	"context"
	"errors"

	"github.com/fraiseql/observer"
)

// withFence has work know its lease, and ask for it before it begins something. It waits for
// an answer as long as the relay reads: reading ends with the drain, too.
func (r *Relay) withFence(work, reading context.Context) context.Context {
	if r.cfg.Lease == nil {
		return work
	}
	work = observer.WithLease(work, observer.Lease{Name: r.cfg.Lease.Name(), Term: r.cfg.Lease.Term()})
	return observer.WithFence(work, func(context.Context) error {
		err := r.cfg.Lease.Await(reading)
		if cause := context.Cause(reading); err != nil && errors.Is(cause, observer.ErrFenced) {
			err = cause // somebody else noticed it first
		}
		r.lost(err)
		return err
	})
}

// lost reports whether err says that the lease is lost, and ends the reading if
// so.
func (r *Relay) lost(err error) bool {
	if !errors.Is(err, observer.ErrFenced) {
		return false
	}
	r.fence(err)
	return true
}
