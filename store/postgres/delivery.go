package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

const (
	// insertDelivery checks the cap and inserts in one statement; no row changes
	// when the key is there or the cap is reached.
	insertDelivery = `
WITH clock AS MATERIALIZED (SELECT ` + clock + ` AS now)
INSERT INTO {{schema}}.tb_delivery (created_at, updated_at, key, full_key, state, observer, action, action_type, reason, run_at,
    error, attempts, request, event, malformed, data, before)
SELECT now, now, $2, $3, $4, $5, $6::integer, $7, $8, $9::timestamptz, $10, $11, $12, $13, $14, $15, $16
FROM clock
WHERE $4 <> 'dead' OR (SELECT sum(n) FROM {{schema}}.tb_dead_count) < $17::bigint
ON CONFLICT (key) DO NOTHING`

	removeDelivery = `DELETE FROM {{schema}}.tb_delivery WHERE key = $2 AND lease_until <= ` + clock

	lockShared = "SELECT pg_advisory_xact_lock_shared($1)"
	lockAlone  = "SELECT pg_advisory_xact_lock($1)"
)

// margin is the number of dead letters below the cap from which on they are
// stored one after the other. Above it each session that stores one at the same
// time has seen room for all of them, so it must be more than the sessions that
// a server may have.
const margin = 1000

// InsertDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it.
func (s *Store) InsertDelivery(ctx context.Context, d *observer.Delivery) error {
	what := "store delivery " + d.Key
	r, err := s.texts.row(d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	var stored int64
	insert := func(lock string, limit int) error {
		return s.change(ctx, what, func(c *change) {
			if lock != "" {
				c.exec(new(int64), lock, s.schema.lockID("dead letters"))
			}
			c.exec(&stored, insertDelivery, s.insertArgs(d, r, limit)...)
		})
	}
	if d.State != observer.Dead {
		if err := insert("", 0); err != nil || stored == 1 {
			return err
		}
		return nil // the key is there
	}
	if s.maxDead > margin {
		if err := insert(lockShared, s.maxDead-margin); err != nil || stored == 1 {
			return err
		}
	}
	if err := insert(lockAlone, s.maxDead); err != nil || stored == 1 {
		return err
	}
	there, err := s.exists(ctx, d.Key)
	if err == nil && !there {
		err = observer.ErrFull
	}
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

func (s *Store) insertArgs(d *observer.Delivery, r row, limit int) []any {
	short, full := s.texts.key(d.Key)
	return []any{
		s.clockNow(), short, full, r.state, r.observer, r.action, r.actionType, r.reason, r.runAt,
		r.err, r.attempts, r.request, r.event, r.malformed, r.data, r.before, limit,
	}
}

// Delivery implements [observer.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, key string) (*observer.Delivery, error) {
	short, _ := s.texts.key(key)
	var d *observer.Delivery
	err := s.query(ctx, func(ctx context.Context) (err error) {
		d, err = scan(s.row(ctx, "SELECT "+columns+" FROM {{schema}}.tb_delivery WHERE key = $2", s.clockNow(), short))
		return notFound(err)
	})
	if err != nil {
		return nil, fmt.Errorf("read delivery %s: %w", key, err)
	}
	return d, nil
}

// Deliveries implements [observer.DeliveryStore]. Deliveries stored in the same
// microsecond are ordered by key, long and escaped keys apart. A row of which a
// part cannot be read is listed with what can, and with an Error that says so.
func (s *Store) Deliveries(ctx context.Context, f observer.DeliveryFilter) ([]*observer.Delivery, error) {
	sql, args := s.listing(f)
	var list []*observer.Delivery
	err := s.bounded(ctx, listTimeout, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(sql), args...)
		if err != nil {
			return err
		}
		list, err = scanAll(rows)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", err)
	}
	return list, nil
}

func (s *Store) listing(f observer.DeliveryFilter) (sql string, args []any) {
	args = []any{s.clockNow()}
	param := func(v any) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	where := []string{"true"}
	switch f.State {
	case "":
	case observer.Dead, observer.Scheduled:
		where = append(where, "state = '"+string(f.State)+"'") // literal, for the partial indexes
	default:
		where = append(where, "state = "+param(s.texts.encode(string(f.State))))
	}
	if f.Observer != "" {
		where = append(where, "observer = "+param(s.texts.encode(f.Observer)))
	}
	if !f.Since.IsZero() {
		where = append(where, "created_at >= "+param(dueTime(f.Since)))
	}
	sql = "SELECT " + columns + " FROM {{schema}}.tb_delivery WHERE " + strings.Join(where, " AND ") +
		" ORDER BY created_at, key OFFSET " + param(max(f.Offset, 0))
	if f.Limit > 0 {
		sql += " LIMIT " + param(f.Limit)
	}
	return sql, args
}

// DeliveryKeys implements [observer.DeliveryStore].
func (s *Store) DeliveryKeys(ctx context.Context, each func(key string)) error {
	err := s.bounded(ctx, listTimeout, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in("SELECT coalesce(full_key, key) FROM {{schema}}.tb_delivery"))
		if err != nil {
			return err
		}
		var key string
		_, err = pgx.ForEachRow(rows, []any{&key}, func() error {
			each(decode(key))
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read the keys of deliveries: %w", err)
	}
	return nil
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	what := "remove delivery " + key
	short, _ := s.texts.key(key)
	var removed int64
	err := s.change(ctx, what, func(c *change) { c.exec(&removed, removeDelivery, s.clockNow(), short) })
	if err != nil || removed == 1 {
		return err
	}
	return s.missingOrBusy(ctx, what, key)
}
