package sqlite

import (
	"context"
	"errors"
	"fmt"
)

// JournalMode is the journal mode of a database file, in lower case: "wal", or
// one in which a reader and a writer lock each other out for moments, so that
// writers without a busy timeout fail.
func JournalMode(ctx context.Context, path string) (mode string, err error) {
	db, err := open(ctx, path, reading)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return "", fmt.Errorf("read the journal mode of %s: %w", path, err)
	}
	return mode, nil
}
