package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	observer "github.com/fraiseql/observer"
)

const (
	selectCheckpoints = `SELECT name, position, done, saved_at FROM {{schema}}.tb_checkpoint`

	saveCheckpoint = `
INSERT INTO {{schema}}.tb_checkpoint (name, position, done, saved_at) VALUES ($2, $3, $4, ` + clock + `)
ON CONFLICT (name) DO UPDATE
SET position = excluded.position, done = excluded.done, saved_at = excluded.saved_at`

	// saveFenced locks the lease until the checkpoint is committed. Whoever takes
	// the lease waits for that and then loads what was saved, or took it before, and
	// the lease is not found.
	saveFenced = `
WITH held AS MATERIALIZED (
    SELECT FROM {{schema}}.tb_lease WHERE name = $5 AND term = $6 AND holder <> '' FOR SHARE),
saved AS (
    INSERT INTO {{schema}}.tb_checkpoint (name, position, done, saved_at) SELECT $2, $3, $4, ` + clock + ` FROM held
    ON CONFLICT (name) DO UPDATE
    SET position = excluded.position, done = excluded.done, saved_at = excluded.saved_at
    RETURNING 1)
SELECT (SELECT count(*) FROM held), (SELECT count(*) FROM saved)`
)

// LoadCheckpoint implements [observer.CheckpointStore].
func (s *Store) LoadCheckpoint(ctx context.Context, name string) (observer.Checkpoint, error) {
	var cp observer.Checkpoint
	err := s.query(ctx, func(ctx context.Context) (err error) {
		_, cp, err = scanCheckpoint(s.row(ctx, selectCheckpoints+" WHERE name = $1", s.texts.encode(name)))
		return notFound(err)
	})
	if err != nil {
		return observer.Checkpoint{}, fmt.Errorf("load checkpoint %s: %w", name, err)
	}
	return cp, nil
}

// SaveCheckpoint implements [observer.CheckpointStore]. Of concurrent saves
// under one name the last to commit stays, whole.
func (s *Store) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	done := make([]exact, len(cp.Done))
	for i, id := range cp.Done {
		done[i] = exact(id)
	}
	what := "save checkpoint " + name
	text, err := s.texts.json(done)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	held, saved := int64(1), int64(0)
	args := []any{s.clockNow(), s.texts.encode(name), s.texts.encode(string(cp.Position)), *text}
	err = s.change(ctx, what, func(c *change) {
		if cp.Term == 0 {
			c.exec(&saved, saveCheckpoint, args...)
			return
		}
		lease, _ := s.texts.name(cmp.Or(cp.Lease, name))
		c.rows(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&held, &saved}, func() error { return nil })
			return err
		}, saveFenced, append(args, lease, cp.Term)...)
	})
	switch {
	case err == nil && held == 0: // Invariant 5
		return fmt.Errorf("%s: %w", what, observer.ErrFenced)
	case err == nil && saved != 1:
		// A rule, a trigger or a row security policy of somebody else's. Sessions
		// may know a statement that a rule emptied for longer than the rule.
		s.pool.Reset()
		return fmt.Errorf("%s: %s stored %d rows instead of 1; remove what was added to the table tb_checkpoint", what, s.at, saved)
	}
	return err
}

// Checkpoints gives every stored checkpoint by the name of its source.
func (s *Store) Checkpoints(ctx context.Context) (map[string]observer.Checkpoint, error) {
	all := map[string]observer.Checkpoint{}
	err := s.query(ctx, func(ctx context.Context) error {
		rows, err := s.pool.Query(ctx, s.schema.in(selectCheckpoints))
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			name, cp, err := scanCheckpoint(rows)
			if err != nil {
				return err
			}
			all[name] = cp
		}
		return rows.Err()
	})
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	return all, nil
}

func scanCheckpoint(row pgx.Row) (name string, cp observer.Checkpoint, err error) {
	var position, stored string
	var savedAt pgtype.Timestamptz
	if err := row.Scan(&name, &position, &stored, &savedAt); err != nil {
		return "", cp, err
	}
	name = decode(name)
	cp.Position, cp.SavedAt = observer.Position(decode(position)), timeOf(savedAt)
	var done []exact
	if err := json.Unmarshal([]byte(decode(stored)), &done); err != nil {
		return name, cp, fmt.Errorf("the finished ids of checkpoint %s are damaged: %w", name, err)
	}
	for _, id := range done {
		cp.Done = append(cp.Done, string(id))
	}
	return name, cp, nil
}
