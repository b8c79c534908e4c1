package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	selectEndpoints = `
SELECT coalesce(full_name, name), failing_since, last_error, pause, paused_at, updated_at FROM {{schema}}.tb_endpoint`

	insertEndpoint = `
INSERT INTO {{schema}}.tb_endpoint (name, full_name, failing_since, last_error, pause, paused_at, updated_at)
VALUES ($2, $3, $4, $5, $6, $7, ` + clock + `) ON CONFLICT (name) DO NOTHING`

	updateEndpoint = `
UPDATE {{schema}}.tb_endpoint SET full_name = $3, failing_since = $4, last_error = $5, pause = $6, paused_at = $7,
    updated_at = greatest(` + clock + `, updated_at + interval '1 microsecond')
WHERE name = $2 AND updated_at = $8`

	removeEndpoint  = `DELETE FROM {{schema}}.tb_endpoint WHERE name = $1 AND updated_at = $2`
	isEndpointThere = `SELECT count(*) FROM {{schema}}.tb_endpoint WHERE name = $1`
)

// Endpoints implements [observer.DeliveryStore].
func (s *Store) Endpoints(ctx context.Context) ([]observer.Endpoint, error) {
	all := []observer.Endpoint{}
	err := s.query(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(selectEndpoints))
		if err != nil {
			return err
		}
		var name, lastError, pause string
		var failing, paused, updated pgtype.Timestamptz
		_, err = pgx.ForEachRow(rows, []any{&name, &failing, &lastError, &pause, &paused, &updated}, func() error {
			all = append(all, observer.Endpoint{
				Name: decode(name), FailingSince: timeOf(failing), LastError: decode(lastError),
				Pause: observer.Pause(decode(pause)), PausedAt: timeOf(paused), UpdatedAt: timeOf(updated),
			})
			return nil
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", err)
	}
	slices.SortFunc(all, func(a, b observer.Endpoint) int { return cmp.Compare(a.Name, b.Name) })
	return all, nil
}

// SaveEndpoint implements [observer.DeliveryStore].
func (s *Store) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	short, full := s.texts.name(e.Name)
	what := "save endpoint " + e.Name
	var stored, other int64
	remove := e.FailingSince.IsZero() && e.Pause == observer.NotPaused
	err := s.change(ctx, what, func(c *change) {
		stored, other = 0, 0
		if remove {
			c.run(removeEndpoint, short, maybeTime(e.UpdatedAt))
			c.rows(func(rows pgx.Rows) (err error) {
				other, err = pgx.CollectExactlyOneRow(rows, pgx.RowTo[int64])
				return err
			}, isEndpointThere, short)
			return
		}
		args := []any{s.clockNow(), short, full, maybeTime(e.FailingSince), s.texts.encode(e.LastError),
			s.texts.encode(string(e.Pause)), maybeTime(e.PausedAt)}
		if e.UpdatedAt.IsZero() {
			c.exec(&stored, insertEndpoint, args...)
		} else {
			c.exec(&stored, updateEndpoint, append(args, maybeTime(e.UpdatedAt))...)
		}
	})
	if err == nil && (other > 0 || !remove && stored == 0) {
		err = fmt.Errorf("%s: %w", what, observer.ErrBusy)
	}
	return err
}

// maybeTime is a time as it is stored: NULL for none.
func maybeTime(t time.Time) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{}
	}
	return dueTime(t)
}
