package sqlite

import (
	"context"
	"database/sql"
	"fmt"

	observer "github.com/fraiseql/observer"
)

const (
	selectEndpoints = `
SELECT name, failing_since, pause, paused_at, updated_at, last_error FROM tb_endpoint ORDER BY name`

	// saveEndpoint stores one for which there is no row, or that of ?7.
	saveEndpoint = `
INSERT INTO tb_endpoint (name, failing_since, pause, paused_at, updated_at, last_error)
SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE ?7 = 0 OR EXISTS (SELECT 1 FROM tb_endpoint WHERE name = ?1)
ON CONFLICT (name) DO UPDATE
SET failing_since = excluded.failing_since, pause = excluded.pause, paused_at = excluded.paused_at,
    updated_at = max(excluded.updated_at, tb_endpoint.updated_at + 1), last_error = excluded.last_error
WHERE tb_endpoint.updated_at = ?7`

	removeEndpoint  = `DELETE FROM tb_endpoint WHERE name = ? AND updated_at = ?`
	isEndpointThere = `SELECT count(*) FROM tb_endpoint WHERE name = ?`
)

// Endpoints implements [observer.DeliveryStore].
func (s *Store) Endpoints(ctx context.Context) ([]observer.Endpoint, error) {
	all, err := s.endpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("list endpoints: %w", s.explain(err))
	}
	return all, nil
}

func (s *Store) endpoints(ctx context.Context) (all []observer.Endpoint, err error) {
	err = each(ctx, s.read, func(rows *sql.Rows) error {
		var e observer.Endpoint
		var failing, paused, updated int64
		err := rows.Scan(&e.Name, &failing, &e.Pause, &paused, &updated, &e.LastError)
		e.FailingSince, e.PausedAt, e.UpdatedAt = fromMicros(failing), fromMicros(paused), fromMicros(updated)
		all = append(all, e)
		return err
	}, selectEndpoints)
	return all, err
}

// SaveEndpoint implements [observer.DeliveryStore].
func (s *Store) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	return s.write(ctx, "save endpoint "+e.Name, func(tx *session) error {
		if e.FailingSince.IsZero() && e.Pause == observer.NotPaused {
			return tx.removeEndpoint(e)
		}
		n, err := tx.exec(saveEndpoint, e.Name, micros(e.FailingSince), string(e.Pause), micros(e.PausedAt),
			micros(s.now()), e.LastError, micros(e.UpdatedAt))
		if err == nil && n == 0 {
			err = observer.ErrBusy
		}
		return err
	})
}

func (s *session) removeEndpoint(e observer.Endpoint) error {
	if _, err := s.exec(removeEndpoint, e.Name, micros(e.UpdatedAt)); err != nil {
		return err
	}
	var other int
	err := s.stmt(isEndpointThere).QueryRowContext(s.ctx, e.Name).Scan(&other) //nolint:sqlclosecheck // closed with the transaction
	if err == nil && other > 0 {
		err = observer.ErrBusy
	}
	return err
}
