package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	observer "github.com/fraiseql/observer"
)

const (
	// insertDelivery checks the cap and inserts in one statement; no row changes
	// when the key is there or the cap is reached.
	insertDelivery = `
INSERT INTO tb_delivery (key, state, observer, action, action_type, reason, run_at, created_at, updated_at,
    error, attempts, request, event, malformed, data, before)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15
WHERE ?2 <> 'dead' OR (SELECT n FROM tb_dead_count) < ?16
ON CONFLICT (key) DO NOTHING`

	removeDelivery = `DELETE FROM tb_delivery WHERE key = ? AND lease_until <= ?`

	existsDelivery = `SELECT count(*) FROM tb_delivery WHERE key = ?`
)

// writeQueries are the statements that run on the writing connection.
func writeQueries() []string {
	return []string{
		saveCheckpoint, insertDelivery, removeDelivery, existsDelivery,
		claimDelivery, claimDue, extendLease, updateDelivery, completeDelivery,
	}
}

// InsertDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it.
func (s *Store) InsertDelivery(ctx context.Context, d *observer.Delivery) error {
	what := "store delivery " + d.Key
	r, err := encode(d)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return s.write(ctx, what, func(tx *session) error {
		n, err := tx.exec(insertDelivery, d.Key, r.state, r.observer, r.action, r.actionType, r.reason, r.runAt,
			micros(s.now()), r.err, r.attempts, r.request, r.event, r.malformed, r.data, r.before, s.maxDead)
		if err != nil || n == 1 {
			return err
		}
		there, err := tx.exists(d.Key)
		if err == nil && !there {
			err = observer.ErrFull
		}
		return err
	})
}

func (s *session) exists(key string) (bool, error) {
	var n int
	err := s.stmt(existsDelivery).QueryRowContext(s.ctx, key).Scan(&n) //nolint:sqlclosecheck // closed with the transaction
	return n > 0, err
}

// missingOrBusy says why a statement about a delivery found no row to change.
func (s *session) missingOrBusy(key string) error {
	there, err := s.exists(key)
	switch {
	case err != nil:
		return err
	case there:
		return observer.ErrBusy
	}
	return observer.ErrNotFound
}

// Delivery implements [observer.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, key string) (*observer.Delivery, error) {
	row := s.read.QueryRowContext(ctx, "SELECT "+columns+" FROM tb_delivery WHERE key = ?", key)
	d, err := s.scan(row)
	if errors.Is(err, sql.ErrNoRows) {
		err = observer.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read delivery %s: %w", key, s.explain(err))
	}
	return d, nil
}

// Deliveries implements [observer.DeliveryStore]. Deliveries stored in the same
// microsecond are ordered by key. A row of which a part cannot be read is
// listed with what can, and with an Error that says so.
func (s *Store) Deliveries(ctx context.Context, f observer.DeliveryFilter) ([]*observer.Delivery, error) {
	query, args := listing(f)
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", s.explain(err))
	}
	list, err := s.scanAll(rows)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", s.explain(err))
	}
	return list, nil
}

func listing(f observer.DeliveryFilter) (query string, args []any) {
	where := []string{"true"}
	switch f.State {
	case "":
	case observer.Dead:
		where = append(where, "state = 'dead'") // literal, for the partial index
	default:
		where, args = append(where, "state = ?"), append(args, string(f.State))
	}
	if f.Observer != "" {
		where, args = append(where, "observer = ?"), append(args, f.Observer)
	}
	if !f.Since.IsZero() {
		where, args = append(where, "created_at >= ?"), append(args, micros(f.Since))
	}
	limit := f.Limit
	if limit <= 0 {
		limit = -1
	}
	return "SELECT " + columns + " FROM tb_delivery WHERE " + strings.Join(where, " AND ") +
		" ORDER BY created_at, key LIMIT ? OFFSET ?", append(args, limit, max(f.Offset, 0))
}

// RemoveDelivery implements [observer.DeliveryStore].
func (s *Store) RemoveDelivery(ctx context.Context, key string) error {
	return s.write(ctx, "remove delivery "+key, func(tx *session) error {
		n, err := tx.exec(removeDelivery, key, micros(s.now()))
		if err != nil || n == 1 {
			return err
		}
		return tx.missingOrBusy(key)
	})
}
