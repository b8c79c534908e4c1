package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// dropPatience is how long writers wait at most, behind us, when somebody else
// uses the log and it cannot be locked.
const dropPatience = "SET LOCAL lock_timeout = '1s'"

// partition is one part of a log that is partitioned by range.
type partition struct {
	name      string // quoted
	isDefault bool
}

// partitions prunes a log by its partitions. It is not done when rows have to be
// deleted wherever they are.
func (p *pruner) partitions(ctx context.Context) (gone int64, done bool, err error) {
	list, err := p.listPartitions(ctx)
	if err != nil || len(list) == 0 {
		return 0, false, err
	}
	for _, part := range list {
		n, err := p.partition(ctx, part)
		gone += n
		server, _ := errors.AsType[*pgconn.PgError](err)
		switch {
		case err == nil:
		case server != nil && server.Code == "42501": // insufficient_privilege
			return gone, false, nil
		case server != nil && server.Code == "55P03": // lock_not_available
			p.cfg.Logger.Info("the change log is in use; a partition of it is dropped another time", "partition", part.name)
			return gone, true, nil
		default:
			return gone, false, err
		}
	}
	return gone, true, nil
}

// listPartitions is empty unless the log is partitioned by range.
func (p *pruner) listPartitions(ctx context.Context) (list []partition, err error) {
	const query = `SELECT format('%I.%I', s.nspname, c.relname), c.oid = t.partdefid
  FROM pg_partitioned_table AS t
  JOIN pg_inherits AS i ON i.inhparent = t.partrelid
  JOIN pg_class AS c ON c.oid = i.inhrelid
  JOIN pg_namespace AS s ON s.oid = c.relnamespace
 WHERE t.partrelid = $1 AND t.partstrat = 'r' AND c.relkind IN ('r', 'p')
 ORDER BY c.oid`
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	err = p.conn.do(ctx, func() error {
		rows, err := p.conn.Query(ctx, query, p.log.layout.TableOID)
		if err != nil {
			return err
		}
		list, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (part partition, err error) {
			return part, r.Scan(&part.name, &part.isDefault)
		})
		return err
	})
	return list, err
}

// partition drops one, deletes rows of it, or leaves it to another time. An
// empty one may be there for rows to come.
func (p *pruner) partition(ctx context.Context, part partition) (gone int64, err error) {
	newest, old, err := p.newestOf(ctx, part.name)
	switch {
	case err != nil || newest == 0:
		return 0, err
	case part.isDefault || newest >= p.below:
		return p.delete(ctx, part.name)
	case !old:
		return 0, nil
	}
	rows, all, err := p.allOld(ctx, part.name)
	if err != nil || !all {
		return 0, err
	}
	if err := p.drop(ctx, part.name); err != nil {
		return 0, err
	}
	return rows, nil
}

// newestOf gives the highest key of a partition, 0 when it is empty, and whether
// that row is old.
func (p *pruner) newestOf(ctx context.Context, name string) (newest int64, old bool, err error) {
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	err = p.conn.do(ctx, func() error {
		return p.conn.QueryRow(ctx, `SELECT pk_entity_change_log, coalesce(created_at < $1, false) FROM `+name+`
 ORDER BY pk_entity_change_log DESC LIMIT 1`, p.olderThan).Scan(&newest, &old)
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, false, nil
	}
	return newest, old, err
}

func (p *pruner) allOld(ctx context.Context, name string) (rows int64, all bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, longPatience)
	defer cancel()
	err = p.conn.do(ctx, func() error {
		return p.conn.QueryRow(ctx, `SELECT count(*), coalesce(bool_and(coalesce(created_at < $1, false)), false) FROM `+name, p.olderThan).
			Scan(&rows, &all)
	})
	return rows, all, err
}

var errFilled = errors.New("a partition of the change log got a new row while it was about to be dropped")

// drop drops a partition, unless there is a new row in it: keys below the floor
// cannot appear any more, so a new one is above. Everybody locks the log before
// its partitions.
func (p *pruner) drop(ctx context.Context, name string) error {
	ctx, cancel := p.patiently(ctx)
	defer cancel()
	return p.conn.transaction(ctx, readCommitted, func() error {
		for _, statement := range []string{dropPatience, "LOCK TABLE ONLY " + p.log.name, "LOCK TABLE " + name} {
			if _, err := p.conn.Exec(ctx, statement); err != nil {
				return err
			}
		}
		var newest int64
		err := p.conn.QueryRow(ctx, "SELECT coalesce(max(pk_entity_change_log), 0) FROM "+name).Scan(&newest)
		if err == nil && newest >= p.below {
			err = errFilled
		}
		if err == nil {
			_, err = p.conn.Exec(ctx, "DROP TABLE "+name)
		}
		return err
	})
}
