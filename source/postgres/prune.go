package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer"
)

// Prune deletes the rows before a position that were recorded before olderThan,
// and says how many. upTo is a checkpoint: what it has not settled is kept, and
// so is the row it stands on, because a later start recognizes its log by it.
//
// It deletes BatchSize rows at a time, each in a transaction of its own, and
// stops at the first row that is young, or has no time. Of a log that is
// partitioned by range, it drops a partition when all of its rows can go, and
// deletes rows only of the newest one and of the default one. Where the role may
// not drop a partition it deletes rows everywhere.
func (s *Source) Prune(ctx context.Context, upTo observer.Position, olderThan time.Time) (deleted int64, err error) {
	if upTo == "" {
		return 0, nil
	}
	if _, err := parsePosition(upTo); err != nil {
		return 0, err
	}
	err = s.withLog(ctx, func(conn *link, log *table) error {
		p := pruner{Source: s, conn: conn, log: log, olderThan: olderThan}
		deleted, err = p.run(ctx, upTo)
		return err
	})
	if server, ok := errors.AsType[*pgconn.PgError](err); ok && server.Code == "42501" {
		return deleted, fmt.Errorf("prune the change log of %s: %w: GRANT DELETE ON %s TO the role, or keep everything with retention = 0", s.cfg.Name, server, s.cfg.Log)
	}
	if err != nil {
		return deleted, s.failed("prune the change log", err)
	}
	return deleted, nil
}

// pruner is one run of Prune.
type pruner struct {
	*Source

	conn      *link
	log       *table
	olderThan time.Time
	// below is the least key that is kept whatever its age.
	below int64
}

func (p *pruner) run(ctx context.Context, upTo observer.Position) (deleted int64, err error) {
	at, err := p.locate(ctx, upTo)
	if err != nil {
		return 0, err
	}
	if err := p.settle(ctx, &at.gaps); err != nil {
		return 0, err
	}
	p.below = min(at.gaps.floor()+1, at.gaps.high)
	if p.log.layout.Partitioned {
		n, done, err := p.partitions(ctx)
		if deleted = n; err != nil || done {
			return deleted, err
		}
	}
	n, err := p.delete(ctx, p.log.name)
	return deleted + n, err
}

// locate is the place of a position in the log as it is now. That it may be
// another one than the position says is for the stream to report.
func (p *pruner) locate(ctx context.Context, upTo observer.Position) (at place, err error) {
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	err = p.conn.do(ctx, func() error {
		at, _, err = locate(ctx, p.conn.Conn, p.log, upTo)
		return err
	})
	return at, err
}

// settle drops the holes that are dead by now: a checkpoint keeps those that its
// last event found until the next event. When nobody holds the sequence's lock,
// and a later snapshot has no row in a hole, there will never be one.
func (p *pruner) settle(ctx context.Context, g *gaps) error {
	if len(g.holes) == 0 {
		return nil
	}
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	return p.conn.do(ctx, func() error {
		holders, err := p.log.holders(ctx, p.conn.Conn)
		if err != nil || len(holders) > 0 {
			return err
		}
		filled, err := p.log.filled(ctx, p.conn.Conn, g)
		if err != nil {
			return err
		}
		g.holes = slices.DeleteFunc(g.holes, func(h hole) bool { return !h.owners.undrawn && !filled[h.lo] })
		return nil
	})
}

// delete deletes rows of the log, or of one partition. It begins where the last
// run ended: while an old snapshot can see deleted rows, their entries stay in
// the index, and each run would walk over all of them again.
func (p *pruner) delete(ctx context.Context, name string) (deleted int64, err error) {
	from := int64(0)
	if ended, ok := p.pruned.Load(name); ok && ended.(int64) < p.below { // above it the keys have begun anew
		from = ended.(int64)
	}
	for {
		n, last, err := p.batch(ctx, pruneQuery(name), from)
		deleted += n
		if n > 0 {
			from = last
			p.pruned.Store(name, from)
		}
		if err != nil || n < int64(p.cfg.BatchSize) {
			return deleted, err
		}
	}
}

// pruneQuery deletes the oldest rows above one key and below another, up to the
// first that stays. The last key it gives is where the next batch begins.
func pruneQuery(name string) string {
	return `WITH oldest AS (
  SELECT pk_entity_change_log AS pk, created_at FROM ` + name + `
   WHERE pk_entity_change_log > $1 AND pk_entity_change_log < $2
   ORDER BY pk_entity_change_log LIMIT $4
), young AS (
  SELECT min(pk) AS pk FROM oldest WHERE created_at IS NULL OR created_at >= $3
), gone AS (
  DELETE FROM ` + name + ` WHERE pk_entity_change_log IN (
    SELECT o.pk FROM oldest AS o, young AS y WHERE y.pk IS NULL OR o.pk < y.pk)
  RETURNING pk_entity_change_log AS pk
)
SELECT count(*), coalesce(max(pk), 0) FROM gone`
}

func (p *pruner) batch(ctx context.Context, query string, from int64) (n, last int64, err error) {
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	err = p.conn.do(ctx, func() error {
		return p.conn.QueryRow(ctx, query, from, p.below, p.olderThan, p.cfg.BatchSize).Scan(&n, &last)
	})
	return n, last, err
}
