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

	saveEndpoint = `
INSERT INTO {{schema}}.tb_endpoint (name, full_name, failing_since, last_error, pause, paused_at, updated_at)
VALUES ($2, $3, $4, $5, $6, $7, ` + clock + `)
ON CONFLICT (name) DO UPDATE SET failing_since = excluded.failing_since, last_error = excluded.last_error,
    pause = excluded.pause, paused_at = excluded.paused_at, updated_at = excluded.updated_at`

	removeEndpoint = `DELETE FROM {{schema}}.tb_endpoint WHERE name = $1`
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
	return s.change(ctx, "save endpoint "+e.Name, func(c *change) {
		if e.FailingSince.IsZero() && e.Pause == observer.NotPaused {
			c.run(removeEndpoint, short)
			return
		}
		c.run(saveEndpoint, s.clockNow(), short, full, maybeTime(e.FailingSince), s.texts.encode(e.LastError),
			s.texts.encode(string(e.Pause)), maybeTime(e.PausedAt))
	})
}

// maybeTime is a time as it is stored: NULL for none.
func maybeTime(t time.Time) pgtype.Timestamptz {
	if t.IsZero() {
		return pgtype.Timestamptz{}
	}
	return dueTime(t)
}
