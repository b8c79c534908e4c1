package memory

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	observer "github.com/fraiseql/observer"
)

// leases are those that are known, without what follows from the clock.
type leases struct {
	rows map[string]observer.Lease // by name
	term int64                     // the last one given
}

// AcquireLease implements [observer.LeaseStore].
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (observer.Lease, error) {
	if err := ctx.Err(); err != nil {
		return observer.Lease{}, err
	}
	if holder == "" {
		return observer.Lease{}, fmt.Errorf("acquire lease %s: %w", name, errors.New("the holder has no name"))
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.clock()
	l, there := s.leases.rows[name]
	switch {
	case there && l.Holder == holder:
	case there && l.Expires.After(now):
		return told(l, now), fmt.Errorf("acquire lease %s: %w", name, observer.ErrBusy)
	default:
		s.leases.term++
		l = observer.Lease{Name: name, Holder: holder, Term: s.leases.term, Since: now}
	}
	return s.prolong(l, now, ttl), nil
}

// prolong stores l so that it lasts for ttl at least.
func (s *Store) prolong(l observer.Lease, now time.Time, ttl time.Duration) observer.Lease {
	if until := now.Add(ttl); until.After(l.Expires) {
		l.Expires = until
	}
	s.leases.rows[l.Name] = l
	return told(l, now)
}

// told is a lease as it is given to callers.
func told(l observer.Lease, now time.Time) observer.Lease {
	l.Remaining = l.Expires.Sub(now)
	return l
}

// RenewLeases implements [observer.LeaseStore].
func (s *Store) RenewLeases(ctx context.Context, ttl time.Duration, leases ...observer.Lease) ([]observer.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var held []observer.Lease
	for _, l := range leases {
		if s.holds(l.Name, l.Holder, l.Term) {
			held = append(held, s.prolong(s.leases.rows[l.Name], s.clock(), ttl))
		}
	}
	return held, nil
}

func (s *Store) holds(name, holder string, term int64) bool {
	l, there := s.leases.rows[name]
	return there && l.Holder != "" && l.Holder == holder && l.Term == term
}

// fenced reports whether a checkpoint is saved under a lease that was lost.
func (s *Store) fenced(name string, cp observer.Checkpoint) bool {
	name = cmp.Or(cp.Lease, name)
	return cp.Term != 0 && !s.holds(name, s.leases.rows[name].Holder, cp.Term)
}

// ReleaseLease implements [observer.LeaseStore].
func (s *Store) ReleaseLease(ctx context.Context, l observer.Lease) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.holds(l.Name, l.Holder, l.Term) {
		row := s.leases.rows[l.Name]
		row.Holder = ""
		if now := s.clock(); row.Expires.After(now) {
			row.Expires = now
		}
		s.leases.rows[l.Name] = row
	}
	return nil
}

// Leases implements [observer.LeaseStore].
func (s *Store) Leases(ctx context.Context, prefix string) ([]observer.Lease, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []observer.Lease
	for name, l := range s.leases.rows {
		if strings.HasPrefix(name, prefix) {
			all = append(all, told(l, s.clock()))
		}
	}
	slices.SortFunc(all, func(a, b observer.Lease) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// PruneLeases implements [observer.LeaseStore].
func (s *Store) PruneLeases(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.clock().Add(-keep)
	for name, l := range s.leases.rows {
		if removed < limit && !l.Expires.After(before) {
			delete(s.leases.rows, name)
			removed++
		}
	}
	return removed, nil
}
