package postgres

import (
	"context"
	"errors"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// holdersQuery lists who has drawn from the sequence and is not finished.
const holdersQuery = `SELECT DISTINCT virtualtransaction FROM pg_locks
 WHERE locktype = 'relation' AND database = $1 AND relation = $2
   AND mode = 'RowExclusiveLock' AND granted`

// sequenceQuery tells which file the sequence is in and the last key it gave, 0
// before the first. It is only asked for the key where the role may know it.
const sequenceQuery = `SELECT pg_relation_filenode($1::oid),
       CASE WHEN $2 THEN coalesce(pg_sequence_last_value($1::oid::regclass), 0) ELSE 0 END`

// holders lists the virtual transaction ids that hold the sequence's lock.
func (t *table) holders(ctx context.Context, conn *pgx.Conn) (map[string]struct{}, error) {
	rows, err := conn.Query(ctx, holdersQuery, t.database, t.layout.SequenceOID)
	if err != nil {
		return nil, err
	}
	list := map[string]struct{}{}
	var id string
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		list[id] = struct{}{}
		return nil
	})
	return list, err
}

// lastDrawn is the last key that the sequence gave, 0 before the first, or where
// the role may not know it. A sequence that was restarted is an error.
func (t *table) lastDrawn(ctx context.Context, conn *pgx.Conn) (last int64, err error) {
	var file uint32
	if err := conn.QueryRow(ctx, sequenceQuery, t.layout.SequenceOID, t.sequenceReadable).Scan(&file, &last); err != nil {
		return 0, err
	}
	if file != t.sequenceFile {
		return 0, errRestarted
	}
	return last, nil
}

// newest is the row with the highest key; its key is 0 when there is none.
func (t *table) newest(ctx context.Context, conn *pgx.Conn) (m mark, err error) {
	var id pgtype.Text
	err = conn.QueryRow(ctx, `SELECT pk_entity_change_log, id::text FROM `+t.name+`
 ORDER BY pk_entity_change_log DESC LIMIT 1`).Scan(&m.pk, &id)
	if errors.Is(err, pgx.ErrNoRows) {
		return mark{}, nil
	}
	m.digest = digestOf(id.String)
	return m, err
}

// find looks for the rows of a trail and gives the digests of those that exist.
func (t *table) find(ctx context.Context, conn *pgx.Conn, trail []mark) (map[int64]string, error) {
	keys := make([]int64, len(trail))
	for i, m := range trail {
		keys[i] = m.pk
	}
	rows, err := conn.Query(ctx, `SELECT pk_entity_change_log, id::text FROM `+t.name+`
 WHERE pk_entity_change_log = ANY ($1::bigint[])`, keys)
	if err != nil {
		return nil, err
	}
	found := map[int64]string{}
	var pk int64
	var id pgtype.Text
	_, err = pgx.ForEachRow(rows, []any{&pk, &id}, func() error {
		found[pk] = digestOf(id.String)
		return nil
	})
	return found, err
}

// filled finds the holes that have rows, by their lower ends.
func (t *table) filled(ctx context.Context, conn *pgx.Conn, g *gaps) (map[int64]bool, error) {
	los, his := g.ranges()
	rows, err := conn.Query(ctx, `SELECT hole.lo FROM unnest($1::bigint[], $2::bigint[]) AS hole (lo, hi)
 WHERE EXISTS (SELECT FROM `+t.name+` AS r WHERE r.pk_entity_change_log BETWEEN hole.lo AND hole.hi)`, los, his)
	if err != nil {
		return nil, err
	}
	filled := map[int64]bool{}
	var lo int64
	_, err = pgx.ForEachRow(rows, []any{&lo}, func() error {
		filled[lo] = true
		return nil
	})
	return filled, err
}

// gaps finds the ranges of keys above low, up to high, that have no row.
func (t *table) gaps(ctx context.Context, conn *pgx.Conn, low, high int64, of *owners) ([]hole, error) {
	rows, err := conn.Query(ctx, `SELECT lo, hi FROM (
  SELECT lag(pk, 1, $1::bigint) OVER (ORDER BY pk) + 1 AS lo, pk - 1 AS hi
    FROM (SELECT pk_entity_change_log AS pk FROM `+t.name+`
           WHERE pk_entity_change_log > $1 AND pk_entity_change_log <= $2
           UNION ALL SELECT $2::bigint + 1) AS keys
) AS gaps WHERE lo <= hi ORDER BY lo`, low, high)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(r pgx.CollectableRow) (hole, error) {
		h := hole{owners: of}
		err := r.Scan(&h.lo, &h.hi)
		return h, err
	})
}
