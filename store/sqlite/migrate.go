package sqlite

import (
	"context"
	"database/sql"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/pressly/goose/v3"

	observer "github.com/fraiseql/observer"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is goose's record of what was applied. It has a name of its own
// so that the file can also hold the tables of an application that uses goose.
const versionTable = "tb_observer_state_version"

// migrate applies what is missing, in one transaction.
//
// goose has no lock for SQLite, so the lock is a write transaction around its
// whole run: the one connection of db is inside it when goose begins. Isolated
// DDL is the option with which goose opens no transaction of its own. Whoever
// opens the file at the same time waits at BEGIN and then finds nothing to do,
// and a crash in the middle leaves nothing behind.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	// An interrupted statement would take the connection, and with it the
	// transaction, from under goose. Migrating is short; it is not interrupted.
	ctx = context.WithoutCancel(ctx)
	p, err := newProvider(db)
	if err != nil {
		return err
	}
	if current, err := currentVersion(ctx, db); err != nil || current == latest(p) {
		return err
	}
	if _, err := db.ExecContext(ctx, "BEGIN IMMEDIATE"); err != nil {
		return err
	}
	if err := up(ctx, p, db, path); err != nil {
		_, rollbackErr := db.ExecContext(ctx, "ROLLBACK")
		return errors.Join(err, rollbackErr)
	}
	_, err = db.ExecContext(ctx, "COMMIT")
	return err
}

func up(ctx context.Context, p *goose.Provider, db *sql.DB, path string) error {
	current, err := currentVersion(ctx, db)
	if err != nil {
		return err
	}
	if current > latest(p) {
		return newerError(path, current, latest(p))
	}
	if _, err := p.Up(ctx); err != nil {
		return fmt.Errorf("migrate the tables: %w", err)
	}
	if current > 0 && current < versionPrints {
		return fillPrints(ctx, db)
	}
	return nil
}

// versionPrints has the column of [observer.Fingerprint], which is not computed
// in SQL.
const versionPrints = 2

func fillPrints(ctx context.Context, db *sql.DB) error {
	byError := map[string][]int64{}
	err := each(ctx, db, func(rows *sql.Rows) error {
		var pk int64
		var text string
		err := rows.Scan(&pk, &text)
		byError[text] = append(byError[text], pk)
		return err
	}, "SELECT pk_delivery, error FROM tb_delivery WHERE error <> ''")
	if err != nil {
		return fmt.Errorf("read the errors of stored deliveries: %w", err)
	}
	for text, pks := range byError {
		list, err := json.Marshal(pks)
		if err != nil {
			return err
		}
		_, err = db.ExecContext(ctx, "UPDATE tb_delivery SET error_print = ? WHERE pk_delivery IN (SELECT value FROM json_each(?))",
			observer.Fingerprint(text), string(list))
		if err != nil {
			return fmt.Errorf("fingerprint the errors of stored deliveries: %w", err)
		}
	}
	return nil
}

func newProvider(db *sql.DB) (*goose.Provider, error) {
	dir, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, err
	}
	return goose.NewProvider(goose.DialectSQLite3, db, dir,
		goose.WithTableName(versionTable),
		goose.WithIsolateDDL(true),
		goose.WithDisableGlobalRegistry(true))
}

func latest(p *goose.Provider) int64 {
	sources := p.ListSources()
	return sources[len(sources)-1].Version
}

// currentVersion is the version of the tables, 0 when there are none.
func currentVersion(ctx context.Context, db *sql.DB) (int64, error) {
	var there bool
	err := db.QueryRowContext(ctx, "SELECT count(*) > 0 FROM sqlite_schema WHERE name = ?", versionTable).Scan(&there)
	if err != nil || !there {
		return 0, err
	}
	var version int64
	err = db.QueryRowContext(ctx, "SELECT coalesce(max(version_id), 0) FROM "+versionTable).Scan(&version)
	return version, err
}

// checkVersion is for a store that may not migrate.
func checkVersion(ctx context.Context, db *sql.DB, path string) error {
	p, err := newProvider(db)
	if err != nil {
		return err
	}
	current, err := currentVersion(ctx, db)
	switch {
	case err != nil:
		return err
	case current == 0:
		return &missingError{path: path, what: "holds no state yet"}
	case current > latest(p):
		return newerError(path, current, latest(p))
	case current < latest(p):
		return fmt.Errorf("%s has tables of version %d, this program reads version %d; start the daemon of this release once to upgrade them",
			path, current, latest(p))
	}
	return nil
}

func newerError(path string, current, known int64) error {
	return fmt.Errorf("%s was written by a newer release (its tables have version %d, this program knows %d); use that release, or another file",
		path, current, known)
}
