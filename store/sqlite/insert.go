package sqlite

import (
	"context"
	"fmt"
	"slices"
	"time"

	observer "github.com/fraiseql/observer"
)

const (
	// stored are the columns that a delivery brings along, in the order of
	// [row.args], and storedArgs their values.
	stored = `state, observer, action, action_type, reason, run_at, queue, endpoint, priority, ordering,
    block_when_dead, lane, blocks, blocks_queued, event_id, entity_type, entity_id, redrives,
    edited_at, error_print, prints, error, attempts, request, event, malformed, data, before, rank`
	storedArgs = `?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20,
    ?21, ?22, ?23, ?24, ?25, ?26, ?27, ?28, ?29`

	// insertDelivery checks the cap and inserts in one statement; no row changes
	// when the key is there or the cap is reached. ?30 is whether it is due at its
	// time, which is now if it has none.
	insertDelivery = `
INSERT INTO tb_delivery (` + stored + `,
    due_at, key, created_at, updated_at, lease_owner, lease_until, claims, claimed_at, lost_at)
SELECT ` + storedArgs + `,
    iif(?30, iif(?6 = 0, ?32, ?6), NULL), ?31, ?32, ?32, ?33, ?34, ?35, ?36, 0
WHERE ?1 <> 'dead' OR (SELECT n FROM tb_finished_count WHERE state = 'dead') < ?37
ON CONFLICT (key) DO NOTHING`

	existsDelivery = `SELECT count(*) FROM tb_delivery WHERE key = ?`
)

// claimed is who holds a delivery that is being stored; zero for nobody.
type claimed struct {
	owner   string
	until   time.Time
	at      time.Time
	counted int
}

// InsertDeliveries implements [observer.DeliveryStore]. It reads ds before it
// returns and changes nothing but the State of what it parks.
func (s *Store) InsertDeliveries(ctx context.Context, ds ...*observer.Delivery) (int, error) {
	if len(ds) == 0 {
		return 0, ctx.Err()
	}
	what := "store delivery " + ds[0].Key
	if len(ds) > 1 {
		what = fmt.Sprintf("store %d deliveries", len(ds))
	}
	rows := make([]row, len(ds))
	for i, d := range ds {
		err := checkState(d, observer.Queued, observer.Scheduled, observer.Unknown, observer.Dead)
		if err == nil {
			rows[i], err = encode(d)
		}
		if err != nil {
			return 0, fmt.Errorf("store delivery %s: %w", d.Key, err)
		}
	}
	var stored int
	parked := make([]bool, len(ds))
	err := s.write(ctx, what, func(tx *session) (err error) {
		stored, err = s.insertAll(tx, ds, rows, parked)
		return err
	})
	if err != nil {
		return 0, err
	}
	for i, d := range ds {
		if parked[i] {
			d.State = observer.Parked
		}
	}
	return stored, nil
}

// insertAll may be called again after its transaction was rolled back.
func (s *Store) insertAll(tx *session, ds []*observer.Delivery, rows []row, parked []bool) (stored int, err error) {
	now := micros(s.now())
	for i, r := range rows {
		wait := false
		if ds[i].State != observer.Dead && r.lane != "" {
			if wait, err = tx.blocked(r.lane, r.eventID); err != nil {
				return 0, err
			}
		}
		if wait {
			r.park()
		}
		inserted, err := s.insert(tx, ds[i].Key, &r, now, claimed{})
		if err != nil {
			return 0, err
		}
		if parked[i] = inserted && wait; inserted {
			stored++
		}
	}
	return stored, nil
}

// insert reports whether the key was new. It gives [observer.ErrFull] when the
// row is dead and there is no room for it.
func (s *Store) insert(tx *session, key string, r *row, now int64, by claimed) (inserted bool, err error) {
	args := append(r.args(), key, now, by.owner, micros(by.until), by.counted, micros(by.at), s.maxDead)
	n, err := tx.exec(insertDelivery, args...)
	if err != nil || n == 1 {
		return n == 1, err
	}
	there, err := tx.exists(key)
	if err == nil && !there {
		err = observer.ErrFull
	}
	return false, err
}

// BeginDelivery implements [observer.DeliveryStore]. It reads d before it
// returns and does not change it.
func (s *Store) BeginDelivery(ctx context.Context, d *observer.Delivery, owner string, lease time.Duration) (bool, error) {
	what := "begin delivery " + d.Key
	unknown := *d
	unknown.State = observer.Unknown
	r, err := encode(&unknown)
	if err != nil {
		return false, fmt.Errorf("%s: %w", what, err)
	}
	var begun bool
	err = s.write(ctx, what, func(tx *session) (err error) {
		now := s.now()
		begun, err = s.insert(tx, d.Key, &r, micros(now), claimed{owner: owner, until: now.Add(lease), at: now, counted: 1})
		return err
	})
	return begun && err == nil, err
}

// checkState says which states a caller may store a delivery in.
func checkState(d *observer.Delivery, allowed ...observer.State) error {
	if !slices.Contains(allowed, d.State) {
		return fmt.Errorf("the state is %q, want one of %q", d.State, allowed)
	}
	return nil
}

func (s *session) exists(key string) (bool, error) {
	var n int
	err := s.stmt(existsDelivery).QueryRowContext(s.ctx, key).Scan(&n) //nolint:sqlclosecheck // closed with the transaction
	return n > 0, err
}
