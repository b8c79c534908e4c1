package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"

	observer "github.com/fraiseql/observer"
)

// writeQueries are the statements that run on the writing connection.
func writeQueries() []string {
	return slices.Concat([]string{
		saveCheckpoint, saveEndpoint, removeEndpoint, isEndpointThere,
		insertDelivery, existsDelivery, findDelivery, updateDelivery, requeueDelivery, removeDelivery,
		laneBlocked, placeBlocked, queueDelivery, releaseLane, unblock, repeats,
		claimDelivery, claimChosen, extendLease, dueInBand, firstInBand, raiseBand, removeBand,
		pruneDone, pruneDead,
	}, dedupQueries(), leaseQueries(), receiptQueries())
}

const selectDelivery = `SELECT ` + columns + ` FROM tb_delivery WHERE key = ?`

// Delivery implements [observer.DeliveryStore].
func (s *Store) Delivery(ctx context.Context, key string) (*observer.Delivery, error) {
	found := s.read.QueryRowContext(ctx, selectDelivery, key)
	d, err := scan(found, s.now())
	if errors.Is(err, sql.ErrNoRows) {
		err = observer.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("read delivery %s: %w", key, s.explain(err))
	}
	return d, nil
}

// Deliveries implements [observer.DeliveryStore]. Deliveries stored in the same
// microsecond are in the order of their insertion. A row of which a part cannot
// be read is listed with what can, and with an Error that says so.
func (s *Store) Deliveries(ctx context.Context, f observer.DeliveryFilter) ([]*observer.Delivery, error) {
	now := s.now()
	query, args := listing(&f, micros(now))
	rows, err := s.read.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", s.explain(err))
	}
	list, err := scanAll(rows, now)
	if err != nil {
		return nil, fmt.Errorf("list deliveries: %w", s.explain(err))
	}
	return list, nil
}

// conditions are joined with AND.
type conditions struct {
	where []string
	args  []any
}

func (c *conditions) add(condition string, args ...any) {
	c.where, c.args = append(c.where, condition), append(c.args, args...)
}

// equal is left out for the zero value, which selects everything.
func (c *conditions) equal(column, value string) {
	if value != "" {
		c.add(column+" = ?", value)
	}
}

// unfinished is for a known state: it is written out, for the partial indexes.
func (c *conditions) unfinished(state observer.State, now int64) {
	if state == observer.Running {
		c.add("lease_until > 0 AND lease_until > ?", now)
		return
	}
	if state.Due() {
		c.add("due_at IS NOT NULL")
	}
	c.add("state = '"+string(state)+"' AND lease_until <= ?", now)
}

func listing(f *observer.DeliveryFilter, now int64) (query string, args []any) {
	c := conditions{where: []string{"true"}}
	order := "created_at"
	switch {
	case f.State == "":
	case f.State == observer.Dead:
		c.add("state = 'dead' AND lease_until <= ?", now) // literal, for the partial index
	case f.State.Due(), f.State == observer.Parked, f.State == observer.Running:
		// These are few among all: they are found in their own index and sorted.
		order = "+created_at"
		c.unfinished(f.State, now)
	default:
		c.add("state = ? AND lease_until <= ?", string(f.State), now)
	}
	if f.EventID != "" {
		// The key begins with the id of the event: see observer.DeliveryKey. "0"
		// is the byte after "/".
		c.add("key >= ? AND key < ? AND event_id = ?", f.EventID+"/", f.EventID+"0", f.EventID)
		order = "+created_at"
	}
	c.equal("observer", f.Observer)
	c.equal("action_type", f.ActionType)
	c.equal("queue", f.Queue)
	c.equal("endpoint", f.Endpoint)
	c.equal("entity_type", f.EntityType)
	c.equal("entity_id", f.EntityID)
	c.equal("reason", string(f.Reason))
	c.equal("error_print", f.Fingerprint)
	if f.Action != nil {
		c.add("action = ?", *f.Action)
	}
	if !f.Since.IsZero() {
		c.add("created_at >= ?", micros(f.Since))
	}
	if !f.Until.IsZero() {
		c.add("created_at < ?", micros(f.Until))
	}
	limit := f.Limit
	if limit <= 0 {
		limit = -1
	}
	return "SELECT " + columns + " FROM tb_delivery WHERE " + strings.Join(c.where, " AND ") +
		" ORDER BY " + order + ", pk_delivery LIMIT ? OFFSET ?", append(c.args, limit, max(f.Offset, 0))
}

const (
	// selectKeys reads nothing but the index on key: with a retention of days the
	// rows may be many, and some are large.
	selectKeys = `SELECT key, '' FROM tb_delivery`

	selectBlocking = `
SELECT key, lane FROM tb_delivery WHERE blocks = 1 AND state <> 'parked'
UNION ALL
SELECT key, lane FROM tb_delivery WHERE state = 'parked' AND blocks = 1`
)

// DeliveryKeys implements [observer.DeliveryStore]. All keys and lanes are of one
// moment.
func (s *Store) DeliveryKeys(ctx context.Context, tell func(key, lane string)) error {
	err := s.snapshot(ctx, func(conn *sql.Conn) error {
		lanes := map[string]string{}
		err := eachPair(ctx, conn, selectBlocking, func(key, lane string) { lanes[key] = lane })
		if err != nil {
			return err
		}
		return eachPair(ctx, conn, selectKeys, func(key, _ string) { tell(key, lanes[key]) })
	})
	if err != nil {
		return fmt.Errorf("read the keys of deliveries: %w", s.explain(err))
	}
	return nil
}

func eachPair(ctx context.Context, q querier, query string, tell func(a, b string)) error {
	return each(ctx, q, func(rows *sql.Rows) error {
		var a, b string
		err := rows.Scan(&a, &b)
		if err == nil {
			tell(a, b)
		}
		return err
	}, query)
}
