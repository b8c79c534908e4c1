package postgres

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

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
// microsecond are in the order of their insertion. A row of which a part cannot
// be read is listed with what can, and with an Error that says so.
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
	equal := func(column, value string) {
		if value != "" {
			where = append(where, column+" = "+param(value))
		}
	}
	switch f.State {
	case "":
	case observer.Running:
		where = append(where, held)
	default:
		if known := knownState(f.State); known != "" {
			// A literal, for the partial indexes.
			where = append(where, "state = '"+string(known)+"' AND lease_until <= "+clock)
		} else {
			where = append(where, "false")
		}
	}
	queue, _ := s.texts.name(f.Queue)
	endpoint, _ := s.texts.name(f.Endpoint)
	equal("queue", queue)
	equal("endpoint", endpoint)
	for column, value := range map[string]string{
		"observer": f.Observer, "action_type": f.ActionType, "entity_type": f.EntityType, "entity_id": f.EntityID,
		"event_id": f.EventID, "reason": string(f.Reason), "error_print": f.Fingerprint,
	} {
		equal(column, s.texts.encode(value))
	}
	if f.Action != nil {
		where = append(where, "action = "+param(*f.Action))
	}
	if !f.Since.IsZero() {
		where = append(where, "created_at >= "+param(dueTime(f.Since)))
	}
	if !f.Until.IsZero() {
		where = append(where, "created_at < "+param(dueTime(f.Until)))
	}
	sql = "SELECT " + columns + " FROM {{schema}}.tb_delivery WHERE " + strings.Join(where, " AND ") +
		" ORDER BY created_at, ordinal OFFSET " + param(max(f.Offset, 0))
	if f.Limit > 0 {
		sql += " LIMIT " + param(f.Limit)
	}
	return sql, args
}

// knownState is state if there is one, else "".
func knownState(state observer.State) observer.State {
	for _, known := range observer.States() {
		if state == known {
			return known
		}
	}
	return ""
}

// DeliveryKeys implements [observer.DeliveryStore].
func (s *Store) DeliveryKeys(ctx context.Context, each func(key, lane string)) error {
	const query = `
SELECT coalesce(full_key, key), CASE WHEN blocks THEN lane ELSE '' END,
    CASE WHEN blocks AND lane LIKE '` + digestMark + `%' THEN ARRAY[observer, entity_type, entity_id] END
FROM {{schema}}.tb_delivery`
	err := s.bounded(ctx, listTimeout, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(query))
		if err != nil {
			return err
		}
		var key, lane string
		var parts []string
		_, err = pgx.ForEachRow(rows, []any{&key, &lane, &parts}, func() error {
			each(decode(key), laneName(lane, parts))
			return nil
		})
		return err
	})
	if err != nil {
		return fmt.Errorf("read the keys of deliveries: %w", err)
	}
	return nil
}

// laneName is the name of a lane that is stored as it is or, when it is too long
// for that, as a digest. parts are what it is made of, encoded.
func laneName(stored string, parts []string) string {
	lane := decode(stored)
	if len(parts) != 3 || strings.Contains(lane, "/") {
		return lane
	}
	d := observer.Delivery{
		Observer: decode(parts[0]), Order: observer.OrderStrict,
		Event: &observer.Event{EntityType: decode(parts[1]), EntityID: decode(parts[2])},
	}
	return d.Lane()
}
