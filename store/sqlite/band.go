package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	observer "github.com/fraiseql/observer"
)

// A band is what is due for one queue and endpoint with one priority. tb_band
// knows of each no later than when its first delivery is due, so that looking
// for the next one reads only bands that may have it, and of each band no more
// of the index than it takes.
const (
	selectBands = `SELECT queue, endpoint, rank, due_at FROM tb_band ORDER BY due_at`

	selectDueBands = `SELECT queue, endpoint, rank, due_at FROM tb_band WHERE due_at <= ?1 ORDER BY due_at`

	// dueInBand passes over what is leased, which is no more than runs at once.
	dueInBand = `
SELECT pk_delivery, due_at FROM tb_delivery
WHERE queue = ?1 AND endpoint = ?2 AND rank = ?3 AND due_at <= ?4 AND lease_until <= ?4
ORDER BY due_at, pk_delivery LIMIT ?5`

	// firstFree is the first of a band that nobody runs, due or not.
	firstFree = `
SELECT due_at FROM tb_delivery
WHERE queue = ?1 AND endpoint = ?2 AND rank = ?3 AND due_at IS NOT NULL AND lease_until <= ?4
ORDER BY due_at, pk_delivery LIMIT 1`

	firstInBand = `
SELECT due_at FROM tb_delivery
WHERE queue = ?1 AND endpoint = ?2 AND rank = ?3 AND due_at IS NOT NULL
ORDER BY due_at, pk_delivery LIMIT 1`

	// runningDue are the leased ones that become due again if their lease ends.
	runningDue = `
SELECT queue, endpoint, rank, max(due_at, lease_until) FROM tb_delivery
WHERE lease_until > 0 AND lease_until > ?1 AND due_at IS NOT NULL`

	raiseBand = `UPDATE tb_band SET due_at = ?4 WHERE queue = ?1 AND endpoint = ?2 AND rank = ?3 AND due_at < ?4`

	removeBand = `DELETE FROM tb_band WHERE queue = ?1 AND endpoint = ?2 AND rank = ?3`
)

type band struct {
	queue, endpoint string
	rank            int
	// dueAt is when the first of the band may be due.
	dueAt int64
}

// target is a queue and endpoint: what has room and takes turns.
type target struct{ queue, endpoint string }

func (b *band) target() target { return target{b.queue, b.endpoint} }

func (b *band) args(more ...any) []any { return append([]any{b.queue, b.endpoint, b.rank}, more...) }

func readBands(ctx context.Context, q querier, query string, args ...any) (bands []band, err error) {
	err = each(ctx, q, func(rows *sql.Rows) error {
		var b band
		err := rows.Scan(&b.queue, &b.endpoint, &b.rank, &b.dueAt)
		bands = append(bands, b)
		return err
	}, query, args...)
	return bands, err
}

// rooms remembers the answers of a Room, which is asked once about each target,
// with no transaction open.
type rooms struct {
	room  observer.Room
	known map[target]int
}

// of is the room of a target, at most atMost.
func (r *rooms) of(t target, atMost int) int {
	if r.room == nil {
		return atMost
	}
	n, asked := r.known[t]
	if !asked {
		n = r.room(t.queue, t.endpoint)
		r.known[t] = n
	}
	return max(min(n, atMost), 0)
}

func newRooms(room observer.Room) *rooms { return &rooms{room: room, known: map[target]int{}} }

// NextDue implements [observer.DeliveryStore]. Leases of dead letters and parked
// deliveries do not count: nothing becomes due when they end.
func (s *Store) NextDue(ctx context.Context, room observer.Room) (time.Time, error) {
	next, found, err := s.nextDue(ctx, newRooms(room))
	if err != nil {
		return time.Time{}, fmt.Errorf("find the next due delivery: %w", s.explain(err))
	}
	if !found {
		return time.Time{}, nil
	}
	return time.UnixMicro(next).UTC(), nil
}

func (s *Store) nextDue(ctx context.Context, has *rooms) (next int64, found bool, err error) {
	now := micros(s.now())
	running, err := readBands(ctx, s.read, runningDue, now)
	if err != nil {
		return 0, false, err
	}
	waiting, err := readBands(ctx, s.read, selectBands)
	if err != nil {
		return 0, false, err
	}
	for _, b := range running {
		if (!found || b.dueAt < next) && has.of(b.target(), 1) > 0 {
			next, found = b.dueAt, true
		}
	}
	for _, b := range waiting {
		if found && b.dueAt >= next {
			break
		}
		if has.of(b.target(), 1) == 0 {
			continue
		}
		at, free, err := oneTime(s.read.QueryRowContext(ctx, firstFree, b.args(now)...))
		if err != nil {
			return 0, false, err
		}
		if free && (!found || at < next) {
			next, found = at, true
		}
	}
	return next, found, nil
}

// oneTime reads the time that a query gives, if any.
func oneTime(row *sql.Row) (at int64, found bool, err error) {
	err = row.Scan(&at)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return at, err == nil, err
}

// settle has tb_band tell when the first of b is due.
func (s *session) settle(b *band) error {
	first := s.stmt(firstInBand).QueryRowContext(s.ctx, b.args()...) //nolint:sqlclosecheck // closed with the transaction
	at, found, err := oneTime(first)
	switch {
	case err != nil:
		return err
	case !found:
		_, err = s.exec(removeBand, b.args()...)
	case at != b.dueAt:
		_, err = s.exec(raiseBand, b.args(at)...)
	}
	return err
}
