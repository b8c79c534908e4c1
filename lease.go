package observer

import (
	"context"
	"time"
)

// Lease says who holds a name that several processes share, such as a database
// of which only one of them is to read the log.
type Lease struct {
	Name string
	// Holder names one life of one process: no other has the same, ever. It is ""
	// when the lease was released.
	Holder string
	// Term is the fencing token of one uninterrupted tenancy. It is positive,
	// grows with every change of the holder, and a store gives none twice.
	Term int64
	// Since is when the tenancy began, Expires when it ends or ended unless it is
	// renewed, both by the clock of the store, for display.
	Since, Expires time.Time
	// Remaining is how long it still runs, by the clock of the store when it
	// answered; zero or less when it is over. Whoever decides by it compares no
	// clocks.
	Remaining time.Duration
}

// Running reports whether somebody held the lease when the store answered.
func (l Lease) Running() bool { return l.Holder != "" && l.Remaining > 0 }

type leaseKey struct{}

// WithLease returns a context whose work is done for the holder of a lease, of
// which Name and Term are set.
func WithLease(ctx context.Context, l Lease) context.Context {
	return context.WithValue(ctx, leaseKey{}, l)
}

// LeaseOf is the lease for whose holder the work of ctx is done; the zero one when
// there is none.
func LeaseOf(ctx context.Context) Lease {
	l, _ := ctx.Value(leaseKey{}).(Lease)
	return l
}

// LeaseStore keeps leases, by its own clock. Implementations must pass
// storetest; they are used concurrently, also by several processes.
//
// A lease that ran out is over for everybody else, and not for its holder: as
// long as nobody else took it, the holder goes on under the same term, by
// renewing or acquiring it. So a process that could not renew because the store
// was away goes on as if nothing had happened.
type LeaseStore interface {
	// AcquireLease gives a name that nobody holds to holder, which is not empty, for
	// ttl and under a new term. The holder gets the lease it has, prolonged and under
	// the same term, when nobody else held it since and it was not released. While
	// somebody else's lease runs the error matches [ErrBusy], and the lease is that
	// one.
	AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (Lease, error)
	// RenewLeases prolongs those of leases whose holder and term are still those
	// that are stored, also when they had run out, all in one statement. A lease is
	// never shortened. held are those, as stored now, in no particular order; the
	// others are lost.
	RenewLeases(ctx context.Context, ttl time.Duration, leases ...Lease) (held []Lease, err error)
	// ReleaseLease ends a lease at once. It does nothing when its holder and term
	// are not those that are stored (any more).
	ReleaseLease(ctx context.Context, l Lease) error
	// Leases lists the leases whose name begins with prefix, by name: those that
	// run, and those that are over until they are pruned.
	Leases(ctx context.Context, prefix string) ([]Lease, error)
	// PruneLeases removes up to limit leases that were over for as long as keep.
	// Their holders have lost them then. Terms go on growing.
	PruneLeases(ctx context.Context, keep time.Duration, limit int) (removed int, err error)
}
