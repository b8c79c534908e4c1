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

	saveEndpoint = `
INSERT INTO tb_endpoint (name, failing_since, pause, paused_at, updated_at, last_error) VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET failing_since = excluded.failing_since, pause = excluded.pause, paused_at = excluded.paused_at,
    updated_at = excluded.updated_at, last_error = excluded.last_error`

	removeEndpoint = `DELETE FROM tb_endpoint WHERE name = ?`
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

// SaveEndpoint implements [observer.DeliveryStore]. Of concurrent saves under
// one name the last to commit stays, whole.
func (s *Store) SaveEndpoint(ctx context.Context, e observer.Endpoint) error {
	return s.write(ctx, "save endpoint "+e.Name, func(tx *session) error {
		if e.FailingSince.IsZero() && e.Pause == observer.NotPaused {
			_, err := tx.exec(removeEndpoint, e.Name)
			return err
		}
		_, err := tx.exec(saveEndpoint, e.Name, micros(e.FailingSince), string(e.Pause), micros(e.PausedAt),
			micros(s.now()), e.LastError)
		return err
	})
}
