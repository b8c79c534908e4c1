package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	observer "github.com/fraiseql/observer"
)

const (
	selectDedupView = `
SELECT v.generation, v.place, v.epoch,
    NOT EXISTS (SELECT FROM {{schema}}.tb_dedup_session AS s WHERE s.adopted < v.generation AND s.until > ` + clock + `)
FROM {{schema}}.tb_dedup_view AS v`

	changeDedupView = `
UPDATE {{schema}}.tb_dedup_view SET generation = generation + 1, place = $2, epoch = $3 WHERE generation = $1`

	holdDedupSession = `
INSERT INTO {{schema}}.tb_dedup_session (session, adopted, until)
VALUES ($2, $3, ` + clock + ` + $4 * interval '1 microsecond')
ON CONFLICT (session) DO UPDATE SET adopted = excluded.adopted, until = excluded.until`

	endDedupSession = `DELETE FROM {{schema}}.tb_dedup_session WHERE session = $1`

	pruneDedupSessions = `
DELETE FROM {{schema}}.tb_dedup_session
WHERE session IN (SELECT session FROM {{schema}}.tb_dedup_session WHERE until <= ` + clock + ` LIMIT $2 FOR UPDATE SKIP LOCKED)`
)

// errNoView is about a table that somebody emptied.
var errNoView = errors.New("tb_dedup_view has no row; stop all processes and insert (1, 1, 'state', '')")

// DedupView implements [observer.DedupStateStore].
func (s *Store) DedupView(ctx context.Context) (v observer.DedupView, err error) {
	var place string
	err = s.query(ctx, func(ctx context.Context) error {
		err := s.row(ctx, selectDedupView, s.clockNow()).Scan(&v.Generation, &place, &v.Epoch, &v.Agreed)
		if errors.Is(err, pgx.ErrNoRows) {
			return errNoView
		}
		return err
	})
	if err != nil {
		return v, fmt.Errorf("read where claims are made: %w", err)
	}
	v.Place = observer.DedupPlace(place)
	return v, nil
}

// ChangeDedupView implements [observer.DedupStateStore].
func (s *Store) ChangeDedupView(ctx context.Context, from int64, place observer.DedupPlace, epoch string) (changed bool, err error) {
	var n int64
	err = s.change(ctx, "change where claims are made", func(c *change) {
		c.exec(&n, changeDedupView, from, string(place), s.texts.encode(epoch))
	})
	return n > 0, err
}

// HoldDedupSession implements [observer.DedupStateStore].
func (s *Store) HoldDedupSession(ctx context.Context, session string, adopted int64, lease time.Duration) error {
	return s.change(ctx, "hold session "+session, func(c *change) {
		c.run(holdDedupSession, s.clockNow(), s.texts.encode(session), adopted, lease.Microseconds())
	})
}

// EndDedupSession implements [observer.DedupStateStore].
func (s *Store) EndDedupSession(ctx context.Context, session string) error {
	return s.change(ctx, "end session "+session, func(c *change) { c.run(endDedupSession, s.texts.encode(session)) })
}
