package sqlite

import (
	"cmp"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	observer "github.com/fraiseql/observer"
)

const (
	selectCheckpoints = `SELECT name, position, done, saved_at FROM tb_checkpoint`

	selectCheckpoint = selectCheckpoints + ` WHERE name = ?`

	saveCheckpoint = `
INSERT INTO tb_checkpoint (name, position, done, saved_at) VALUES (?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE
SET position = excluded.position, done = excluded.done, saved_at = excluded.saved_at`
)

// LoadCheckpoint implements [observer.CheckpointStore].
func (s *Store) LoadCheckpoint(ctx context.Context, name string) (observer.Checkpoint, error) {
	row := s.read.QueryRowContext(ctx, selectCheckpoint, name)
	_, cp, err := scanCheckpoint(row)
	if errors.Is(err, sql.ErrNoRows) {
		err = observer.ErrNotFound
	}
	if err != nil {
		return observer.Checkpoint{}, fmt.Errorf("load checkpoint %s: %w", name, s.explain(err))
	}
	return cp, nil
}

// SaveCheckpoint implements [observer.CheckpointStore]. Of concurrent saves
// under one name the last to commit stays, whole.
func (s *Store) SaveCheckpoint(ctx context.Context, name string, cp observer.Checkpoint) error {
	done, err := json.Marshal(cp.Done)
	if err != nil {
		return fmt.Errorf("save checkpoint %s: %w", name, err)
	}
	return s.write(ctx, "save checkpoint "+name, func(tx *session) error {
		if cp.Term != 0 {
			if err := tx.checkTerm(cmp.Or(cp.Lease, name), cp.Term); err != nil {
				return err
			}
		}
		_, err := tx.exec(saveCheckpoint, name, string(cp.Position), string(done), micros(s.now()))
		return err
	})
}

// Checkpoints gives every stored checkpoint by the name of its source.
func (s *Store) Checkpoints(ctx context.Context) (map[string]observer.Checkpoint, error) {
	all, err := s.checkpoints(ctx)
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", s.explain(err))
	}
	return all, nil
}

func (s *Store) checkpoints(ctx context.Context) (map[string]observer.Checkpoint, error) {
	all := map[string]observer.Checkpoint{}
	err := each(ctx, s.read, func(rows *sql.Rows) error {
		name, cp, err := scanCheckpoint(rows)
		all[name] = cp
		return err
	}, selectCheckpoints)
	if err != nil {
		return nil, err
	}
	return all, nil
}

func scanCheckpoint(row scanner) (name string, cp observer.Checkpoint, err error) {
	var position, done string
	var savedAt int64
	if err := row.Scan(&name, &position, &done, &savedAt); err != nil {
		return "", cp, err
	}
	cp.Position, cp.SavedAt = observer.Position(position), fromMicros(savedAt)
	if err := json.Unmarshal([]byte(done), &cp.Done); err != nil {
		return name, cp, fmt.Errorf("the finished ids of checkpoint %s are damaged: %w", name, err)
	}
	return name, cp, nil
}
