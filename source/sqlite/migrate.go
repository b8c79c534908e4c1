package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"
)

const (
	logTable     = "tb_entity_change_log"
	versionTable = logTable + "_version"
)

//go:embed migrations/*.sql
var migrations embed.FS

// migrate creates the change log, or brings it up to date. It only ever adds,
// leaves rows alone, and may be called any number of times, by several processes
// at once.
func migrate(ctx context.Context, db *sql.DB) error {
	files, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return fmt.Errorf("read migrations: %w", err)
	}
	// A table of versions of its own: the user's may use goose too.
	p, err := goose.NewProvider(goose.DialectSQLite3, db, files,
		goose.WithTableName(versionTable), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return fmt.Errorf("prepare migrations: %w", err)
	}
	if _, err = p.Up(ctx); err != nil {
		// Another process may have created the table of versions between the
		// check and the creation; the second look finds it done.
		_, err = p.Up(ctx)
	}
	if err != nil {
		return fmt.Errorf("migrate change log: %w", err)
	}
	return completeLog(ctx, db)
}

// completeLog adds what a table that somebody else made lacks: columns, all of
// them nullable, and the uniqueness of ids.
func completeLog(ctx context.Context, db *sql.DB) error {
	l, err := inspectLog(ctx, db)
	if err != nil {
		return err
	}
	for _, c := range optionalColumns() {
		if l.has(c) {
			continue
		}
		if _, err := db.ExecContext(ctx, "ALTER TABLE "+logTable+" ADD COLUMN "+quoteName(c)); err != nil {
			return fmt.Errorf("add column %s to %s: %w", c, logTable, err)
		}
	}
	if l.uniqueID {
		return nil
	}
	if _, err := db.ExecContext(ctx, "CREATE UNIQUE INDEX IF NOT EXISTS "+logTable+"_id ON "+logTable+" (id)"); err != nil {
		return fmt.Errorf("make the ids of %s unique (look for rows that share one): %w", logTable, err)
	}
	return nil
}
