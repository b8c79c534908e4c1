package demo

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/fraiseql/observer"
)

// shop is the application: it writes orders and knows nothing of the daemon.
type shop struct {
	db     *sql.DB
	in     func(query string) string
	ledger *ledger
	open   []order // those that may still change, oldest first
	// orders and versions count what was handed out, rolled back or not.
	orders, versions int64
}

type order struct {
	id      int64
	version int64
	status  string
}

const (
	// mostOpen is how many orders may still change; older ones stay as they are.
	mostOpen = 50
	// One transaction in rollbackOneIn is rolled back, one change of an order in
	// cancelOneIn is its cancellation.
	rollbackOneIn = 10
	cancelOneIn   = 8
)

// openShop makes the table and installs the capture.
func openShop(ctx context.Context, on database, l *ledger) (*shop, error) {
	db, err := on.open(ctx)
	if err != nil {
		return nil, err
	}
	return &shop{db: db, in: on.in, ledger: l}, nil
}

func (s *shop) close() error { return s.db.Close() }

// write makes rate orders a second until ctx ends. It catches up when the
// database was slow, so that the rate holds on average.
func (s *shop) write(ctx context.Context, rate int) error {
	// A transaction that has begun is finished: ctx only ends the loop.
	whole := context.WithoutCancel(ctx)
	began := time.Now()
	tick := time.NewTicker(max(time.Second/time.Duration(rate), time.Millisecond))
	defer tick.Stop()
	for made := 0; ; {
		due := 1 + int(time.Since(began).Seconds()*float64(rate))
		for ; made < due && ctx.Err() == nil; made++ {
			if err := s.transaction(whole); err != nil {
				return fmt.Errorf("write orders: %w", err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// transaction makes an order and changes an earlier one, or takes it all back.
func (s *shop) transaction(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // does nothing after Commit
	orders := slices.Clone(s.open)
	changes, orders, err := s.change(ctx, tx, orders)
	if err != nil {
		return err
	}
	if rand.N(rollbackOneIn) == 0 { //nolint:gosec // a demo needs no secrecy
		s.ledger.rolledBackOne()
		return tx.Rollback()
	}
	s.ledger.committing(changes)
	if err := tx.Commit(); err != nil {
		return err
	}
	s.open = orders[max(0, len(orders)-mostOpen):]
	return nil
}

func (s *shop) change(ctx context.Context, tx *sql.Tx, orders []order) ([]change, []order, error) {
	s.orders++
	added := order{id: s.orders, version: s.nextVersion(), status: "new"}
	first := change{order: added.id, version: added.version, op: observer.Insert}
	if err := s.apply(ctx, tx, first, added.status); err != nil {
		return nil, nil, err
	}
	changes := []change{first}
	if len(orders) > 0 {
		i := rand.N(len(orders)) //nolint:gosec // a demo needs no secrecy
		next, c := s.advance(orders[i])
		if err := s.apply(ctx, tx, c, next.status); err != nil {
			return nil, nil, err
		}
		changes = append(changes, c)
		if orders[i] = next; c.op == observer.Delete || c.shipped {
			orders = slices.Delete(orders, i, i+1)
		}
	}
	return changes, append(orders, added), nil
}

// advance takes an order to its next state. A cancelled order is deleted: the
// change carries the version it had.
func (s *shop) advance(o order) (order, change) {
	if rand.N(cancelOneIn) == 0 { //nolint:gosec // a demo needs no secrecy
		return o, change{order: o.id, version: o.version, op: observer.Delete}
	}
	o.version = s.nextVersion()
	c := change{order: o.id, version: o.version, op: observer.Update}
	if o.status == "new" {
		o.status = "paid"
	} else {
		o.status, c.shipped = "shipped", true
	}
	return o, c
}

func (s *shop) nextVersion() int64 {
	s.versions++
	return s.versions
}

// apply runs the statement of a change.
func (s *shop) apply(ctx context.Context, tx *sql.Tx, c change, status string) error {
	var err error
	switch c.op {
	case observer.Insert:
		total := float64(100+rand.N(9900)) / 100 //nolint:gosec // a demo needs no secrecy
		_, err = tx.ExecContext(ctx, s.in(`INSERT INTO orders (id, status, total, version) VALUES (?, ?, ?, ?)`), c.order, status, total, c.version)
	case observer.Delete:
		_, err = tx.ExecContext(ctx, s.in(`DELETE FROM orders WHERE id = ?`), c.order)
	default:
		_, err = tx.ExecContext(ctx, s.in(`UPDATE orders SET status = ?, version = ? WHERE id = ?`), status, c.version, c.order)
	}
	return err
}
