package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	// nextTerm has those who acquire leases wait for each other until they commit,
	// so that terms are given in the order in which tenancies begin.
	nextTerm = `UPDATE {{schema}}.tb_lease_term SET term = term + 1`

	acquireLease = `
INSERT INTO {{schema}}.tb_lease AS l (name, full_name, holder, term, since, until)
SELECT $2, $3::text, $4, t.term, ` + clock + `, ` + clock + ` + $5 * interval '1 microsecond' FROM {{schema}}.tb_lease_term AS t
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder,
    term = CASE l.holder WHEN excluded.holder THEN l.term ELSE excluded.term END,
    since = CASE l.holder WHEN excluded.holder THEN l.since ELSE excluded.since END,
    until = greatest(excluded.until, CASE l.holder WHEN excluded.holder THEN l.until END)
WHERE l.holder = excluded.holder OR l.until <= ` + clock

	leaseColumns = `l.name, l.full_name, l.holder, l.term, l.since, l.until, (extract(epoch FROM l.until - ` + clock + `) * 1000000)::bigint`

	selectLease = `SELECT ` + leaseColumns + ` FROM {{schema}}.tb_lease AS l WHERE l.name = $2`

	// selectLeases passes over names that are stored in another way: they are
	// compared when they are read.
	selectLeases = `
SELECT ` + leaseColumns + ` FROM {{schema}}.tb_lease AS l
WHERE starts_with(l.name, $2) OR starts_with(l.name, '` + escapeMark + `') OR l.full_name IS NOT NULL ORDER BY l.name`

	renewLeases = `
UPDATE {{schema}}.tb_lease AS l SET until = greatest(l.until, ` + clock + ` + $2 * interval '1 microsecond')
FROM unnest($3::text[], $4::text[], $5::bigint[]) AS a(name, holder, term)
WHERE l.name = a.name AND l.holder = a.holder AND l.term = a.term AND a.holder <> '' RETURNING ` + leaseColumns

	releaseLease = `
UPDATE {{schema}}.tb_lease SET holder = '', until = least(until, ` + clock + `)
WHERE name = $2 AND holder = $3 AND term = $4 AND holder <> ''`

	pruneLeases = `
DELETE FROM {{schema}}.tb_lease WHERE name IN (
    SELECT name FROM {{schema}}.tb_lease WHERE until <= ` + clock + ` - $2 * interval '1 microsecond' LIMIT $3 FOR UPDATE SKIP LOCKED)`
)

// errNoTerm is about a table that somebody emptied.
var errNoTerm = errors.New("tb_lease_term has no row; stop all processes and insert (1, N), with an N above every term that was ever given")

// errNoHolder is about a caller without a name.
var errNoHolder = errors.New("the holder has no name")

// AcquireLease implements [observer.LeaseStore].
func (s *Store) AcquireLease(ctx context.Context, name, holder string, ttl time.Duration) (observer.Lease, error) {
	what := "acquire lease " + name
	if holder == "" {
		return observer.Lease{}, fmt.Errorf("%s: %w", what, errNoHolder)
	}
	key, full := s.texts.name(name)
	var terms int64
	var found []observer.Lease
	err := s.change(ctx, what, func(c *change) {
		c.exec(&terms, nextTerm)
		c.run(acquireLease, s.clockNow(), key, full, s.texts.encode(holder), ttl.Microseconds())
		c.rows(readLeases(&found), selectLease, s.clockNow(), key)
	})
	switch {
	case err != nil:
		return observer.Lease{}, err
	case len(found) == 0 || terms != 1:
		return observer.Lease{}, fmt.Errorf("%s: %w", what, errNoTerm)
	case found[0].Holder != holder:
		return found[0], fmt.Errorf("%s: %w", what, observer.ErrBusy)
	}
	return found[0], nil
}

// RenewLeases implements [observer.LeaseStore]. It does not wait for other calls,
// nor for long on a connection that is silent: see line.
func (s *Store) RenewLeases(ctx context.Context, ttl time.Duration, leases ...observer.Lease) (held []observer.Lease, err error) {
	if len(leases) == 0 {
		return nil, nil
	}
	names, holders, terms := make([]string, len(leases)), make([]string, len(leases)), make([]int64, len(leases))
	for i, l := range leases {
		names[i], _ = s.texts.name(l.Name)
		holders[i], terms[i] = s.texts.encode(l.Holder), l.Term
	}
	if err := s.writable(); err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	renew := func(ctx context.Context, conn *pgx.Conn) (found []observer.Lease, err error) {
		c := s.transaction(begin, settings, func(c *change) {
			c.rows(readLeases(&found), renewLeases, s.clockNow(), ttl.Microseconds(), names, holders, terms)
		})
		return found, conn.SendBatch(ctx, &c.batch).Close()
	}
	if err := s.query(ctx, func(ctx context.Context) (err error) {
		held, err = ask(ctx, s.line, renew)
		return err
	}); err != nil {
		return nil, fmt.Errorf("renew leases: %w", err)
	}
	return held, nil
}

// ReleaseLease implements [observer.LeaseStore].
func (s *Store) ReleaseLease(ctx context.Context, l observer.Lease) error {
	name, _ := s.texts.name(l.Name)
	return s.change(ctx, "release lease "+l.Name, func(c *change) {
		c.run(releaseLease, s.clockNow(), name, s.texts.encode(l.Holder), l.Term)
	})
}

// Leases implements [observer.LeaseStore]. The order is that of the names as they
// are stored.
func (s *Store) Leases(ctx context.Context, prefix string) (all []observer.Lease, err error) {
	start := s.texts.encode(prefix)
	err = s.query(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(selectLeases), s.clockNow(), start)
		if err != nil {
			return err
		}
		var found []observer.Lease
		if err := readLeases(&found)(rows); err != nil {
			return err
		}
		for _, l := range found {
			if strings.HasPrefix(l.Name, prefix) {
				all = append(all, l)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list leases: %w", err)
	}
	return all, nil
}

// readLeases reads rows of leaseColumns.
func readLeases(into *[]observer.Lease) func(pgx.Rows) error {
	return func(rows pgx.Rows) error {
		*into = nil // what was told before it gave way is not true any more
		var l observer.Lease
		var full *string
		var since, until pgtype.Timestamptz
		var left int64
		_, err := pgx.ForEachRow(rows, []any{&l.Name, &full, &l.Holder, &l.Term, &since, &until, &left}, func() error {
			if full != nil {
				l.Name = *full
			}
			l.Name, l.Holder = decode(l.Name), decode(l.Holder)
			l.Since, l.Expires, l.Remaining = timeOf(since), timeOf(until), time.Duration(left)*time.Microsecond
			*into = append(*into, l)
			return nil
		})
		return err
	}
}

// PruneLeases implements [observer.LeaseStore].
func (s *Store) PruneLeases(ctx context.Context, keep time.Duration, limit int) (removed int, err error) {
	var rows int64
	err = s.change(ctx, "prune leases", func(c *change) {
		c.exec(&rows, pruneLeases, s.clockNow(), keep.Microseconds(), limit)
	})
	return int(rows), err
}
