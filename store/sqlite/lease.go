package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	observer "github.com/fraiseql/observer"
)

const (
	selectLeases = `SELECT name, holder, term, since, until FROM tb_lease ORDER BY name`

	findLease = `SELECT name, holder, term, since, until FROM tb_lease WHERE name = ?`

	nextTerm = `UPDATE tb_lease_term SET term = term + 1`

	beginLease = `
INSERT INTO tb_lease (name, holder, term, since, until) SELECT ?1, ?2, term, ?3, ?4 FROM tb_lease_term WHERE true
ON CONFLICT (name) DO UPDATE
SET holder = excluded.holder, term = excluded.term, since = excluded.since, until = excluded.until`

	renewLease = `
UPDATE tb_lease SET until = max(until, ?1) WHERE name = ?2 AND holder = ?3 AND term = ?4 AND holder <> ''`

	releaseLease = `
UPDATE tb_lease SET holder = '', until = min(until, ?1) WHERE name = ?2 AND holder = ?3 AND term = ?4 AND holder <> ''`

	hasTerm = `SELECT count(*) FROM tb_lease WHERE name = ? AND term = ? AND holder <> ''`

	pruneLeases = `
DELETE FROM tb_lease WHERE name IN (SELECT name FROM tb_lease WHERE until <= ? LIMIT ?)`
)

// leaseQueries are those of writeQueries that are about leases.
func leaseQueries() []string {
	return []string{findLease, nextTerm, beginLease, renewLease, releaseLease, hasTerm, pruneLeases}
}

// errNoTerm is about a table that somebody emptied.
var errNoTerm = errors.New("tb_lease_term has no row; stop all processes and insert (1, N), with an N above every term that was ever given")

// errNoHolder is about a caller without a name.
var errNoHolder = errors.New("the holder has no name")

// AcquireLease implements [observer.LeaseStore].
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (l observer.Lease, err error) {
	if holder == "" {
		return l, fmt.Errorf("acquire lease %s: %w", name, errNoHolder)
	}
	err = s.write(ctx, "acquire lease "+name, func(tx *session) (err error) {
		l, err = tx.acquireLease(name, holder, s.now(), ttl)
		return err
	})
	return l, err
}

func (s *session) acquireLease(name, holder string, now time.Time, ttl time.Duration) (observer.Lease, error) {
	until := now.Add(ttl)
	l, err := s.lease(name, now)
	switch {
	case err == nil && l.Holder == holder:
		_, err = s.exec(renewLease, micros(until), name, holder, l.Term)
	case err == nil && l.Remaining > 0:
		return l, observer.ErrBusy
	case err == nil || errors.Is(err, sql.ErrNoRows):
		err = s.beginLease(name, holder, now, until)
	}
	if err != nil {
		return observer.Lease{}, err
	}
	return s.lease(name, now)
}

// lease reads one in the transaction.
func (s *session) lease(name string, now time.Time) (observer.Lease, error) {
	return scanLease(s.stmt(findLease).QueryRowContext(s.ctx, name), now) //nolint:sqlclosecheck // closed with the transaction
}

func (s *session) beginLease(name, holder string, now, until time.Time) error {
	n, err := s.exec(nextTerm)
	if err == nil && n != 1 {
		err = errNoTerm
	}
	if err != nil {
		return err
	}
	_, err = s.exec(beginLease, name, holder, micros(now), micros(until))
	return err
}

func scanLease(row scanner, now time.Time) (l observer.Lease, err error) {
	var since, until int64
	err = row.Scan(&l.Name, &l.Holder, &l.Term, &since, &until)
	l.Since, l.Expires = fromMicros(since), fromMicros(until)
	l.Remaining = l.Expires.Sub(now)
	return l, err
}

// RenewLeases implements [observer.LeaseStore].
func (s *Store) RenewLeases(ctx context.Context, ttl time.Duration, leases ...observer.Lease) (held []observer.Lease, err error) {
	err = s.write(ctx, "renew leases", func(tx *session) error {
		held = nil
		now := s.now()
		for _, l := range leases {
			n, err := tx.exec(renewLease, micros(now.Add(ttl)), l.Name, l.Holder, l.Term)
			if err == nil && n > 0 {
				l, err = tx.lease(l.Name, now)
				held = append(held, l)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return held, nil
}

// ReleaseLease implements [observer.LeaseStore].
func (s *Store) ReleaseLease(ctx context.Context, l observer.Lease) error {
	return s.write(ctx, "release lease "+l.Name, func(tx *session) error {
		_, err := tx.exec(releaseLease, micros(s.now()), l.Name, l.Holder, l.Term)
		return err
	})
}

// checkTerm gives [observer.ErrFenced] when a lease has another term.
//
// Invariant 5: the transaction has the lock of the file, so nobody takes the
// lease before it ends.
func (s *session) checkTerm(lease string, term int64) error {
	var n int64
	err := s.stmt(hasTerm).QueryRowContext(s.ctx, lease, term).Scan(&n) //nolint:sqlclosecheck // closed with the transaction
	if err == nil && n == 0 {
		return observer.ErrFenced
	}
	return err
}

// Leases implements [observer.LeaseStore]. There are few: all are read.
func (s *Store) Leases(ctx context.Context, prefix string) (all []observer.Lease, err error) {
	now := s.now()
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		l, err := scanLease(rows, now)
		if strings.HasPrefix(l.Name, prefix) {
			all = append(all, l)
		}
		return err
	}, selectLeases)
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", s.explain(err))
	}
	return all, nil
}

// PruneLeases implements [observer.LeaseStore].
func (s *Store) PruneLeases(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	err = s.write(ctx, "prune leases", func(tx *session) error {
		n, err := tx.exec(pruneLeases, micros(s.now().Add(-keep)), limit)
		removed = int(n)
		return err
	})
	return removed, err
}
