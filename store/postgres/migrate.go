package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// versionTable is goose's record of what was applied to the state tables. The
// schema also holds tables that others migrate.
const versionTable = "tb_state_version"

// currentVersion gives the version of the tables, and is for a row only.
const currentVersion = "SELECT coalesce(max(version_id), 0) FROM {{schema}}." + versionTable

// versionTableExists works for roles that may not look into the schema.
const versionTableExists = `
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = '` + versionTable + `')`

// step is one migration.
type step struct {
	version int64
	sql     string
}

// steps are all migrations this program knows, in order.
func steps() ([]step, error) {
	names, err := fs.Glob(migrations, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	steps := make([]step, 0, len(names))
	for _, name := range names {
		number, _, _ := strings.Cut(strings.TrimPrefix(name, "migrations/"), "_")
		version, err := strconv.ParseInt(number, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("migration %s: %w", name, err)
		}
		text, err := migrations.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, step{version, string(text)})
	}
	return steps, nil
}

// Migrate creates the tables of the state store, or brings them up to date, in
// the named schema ("" is [DefaultSchema]), which it creates when it is missing.
// Nothing happens when they are. Several processes may do it at once: goose's
// session lock lets one of them. The URL must lead to the server itself, as a
// pooler in transaction mode cannot hold such a lock.
func Migrate(ctx context.Context, url, schema string) error {
	name, err := newSchema(schema)
	if err != nil {
		return fmt.Errorf("migrate state store: %w", err)
	}
	config, err := connConfig(url)
	if err != nil {
		return fmt.Errorf("migrate state store: %w", err)
	}
	at := placeOf(config)
	maps.Copy(config.RuntimeParams, map[string]string{
		"search_path": name.String(), "synchronous_commit": "on",
		"default_transaction_isolation": "read committed", "default_transaction_read_only": "off",
	})
	db := stdlib.OpenDB(*config)
	err = errors.Join(name.migrate(ctx, db, at), db.Close())
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && e.Code == "08P01" {
		err = at.refused(e.Message, "this seems to be a pooler; migrate with the URL of the server itself", err)
	}
	if err != nil {
		return fmt.Errorf("migrate state store: %w", at.explain(err))
	}
	return nil
}

func (s schema) migrate(ctx context.Context, db *sql.DB, at place) error {
	steps, err := steps()
	if err != nil {
		return err
	}
	current, err := s.version(ctx, func(ctx context.Context, sql string, args ...any) scanner {
		return db.QueryRowContext(ctx, sql, args...)
	})
	switch latest := steps[len(steps)-1].version; {
	case err != nil || current == latest:
		return err
	case current > latest:
		return s.newer(at, current, latest)
	}
	if err := s.create(ctx, db); err != nil {
		return err
	}
	p, err := s.provider(db, steps)
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// scanner is a row.
type scanner interface{ Scan(dest ...any) error }

// version is that of the tables, 0 when there are none.
func (s schema) version(ctx context.Context, row func(ctx context.Context, sql string, args ...any) scanner) (int64, error) {
	var there bool
	if err := row(ctx, versionTableExists, s.name).Scan(&there); err != nil || !there {
		return 0, err
	}
	var version int64
	err := row(ctx, s.in(currentVersion)).Scan(&version)
	return version, err
}

// create makes the schema. A role that may not, need not when it is there. Two
// that do it at once can collide in spite of IF NOT EXISTS.
func (s schema) create(ctx context.Context, db *sql.DB) error {
	const exists = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1)"
	var there bool
	if err := db.QueryRowContext(ctx, exists, s.name).Scan(&there); err != nil || there {
		return err
	}
	_, err := db.ExecContext(ctx, s.in("CREATE SCHEMA IF NOT EXISTS {{schema}}"))
	if e, ok := errors.AsType[*pgconn.PgError](err); ok && (e.Code == "23505" || e.Code == "42P06") {
		return nil
	}
	return err
}

func (s schema) provider(db *sql.DB, steps []step) (*goose.Provider, error) {
	known := make([]*goose.Migration, 0, len(steps))
	for _, step := range steps {
		run := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, s.in(step.sql))
			return err
		}
		known = append(known, goose.NewGoMigration(step.version, &goose.GoFunc{RunTx: run}, nil))
	}
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(s.lockID("migration")), lock.WithLockTimeout(1, 60))
	if err != nil {
		return nil, err
	}
	// goose asks for a name without a schema in the first of the search path.
	return goose.NewProvider(goose.DialectPostgres, db, nil,
		goose.WithTableName(versionTable),
		goose.WithGoMigrations(known...),
		goose.WithSessionLocker(locker),
		goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
}

// Script is the SQL that [Migrate] runs, for those who run such things
// themselves. It may be run any number of times.
func Script(schema string) (string, error) {
	name, err := newSchema(schema)
	if err != nil {
		return "", err
	}
	steps, err := steps()
	if err != nil {
		return "", err
	}
	return name.script(steps), nil
}

func (s schema) script(steps []step) string {
	var b strings.Builder
	fmt.Fprintf(&b, scriptHead, s.lockID("migration"))
	for _, step := range steps {
		fmt.Fprintf(&b, scriptStep, step.version, step.sql)
	}
	b.WriteString("\nCOMMIT;\n")
	return s.in(b.String())
}

const (
	// scriptHead prepares goose's table. The lock is for several at once.
	scriptHead = `BEGIN;
SELECT pg_advisory_xact_lock(%d);

CREATE SCHEMA IF NOT EXISTS {{schema}};
CREATE TABLE IF NOT EXISTS {{schema}}.` + versionTable + ` (
    id         integer PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY,
    version_id bigint NOT NULL,
    is_applied boolean NOT NULL,
    tstamp     timestamp NOT NULL DEFAULT now()
);
INSERT INTO {{schema}}.` + versionTable + ` (version_id, is_applied)
SELECT 0, true WHERE NOT EXISTS (SELECT FROM {{schema}}.` + versionTable + `);
`

	scriptStep = `
DO $fraiseql_step$
BEGIN
IF EXISTS (SELECT FROM {{schema}}.` + versionTable + ` WHERE version_id = %[1]d) THEN
    RETURN;
END IF;

%[2]s
INSERT INTO {{schema}}.` + versionTable + ` (version_id, is_applied) VALUES (%[1]d, true);
END
$fraiseql_step$;
`
)

func (s schema) newer(at place, current, known int64) error {
	return at.refused(
		fmt.Sprintf("schema %s was migrated by a newer release (its tables have version %d, this program knows %d)", s, current, known),
		"use that release, or another schema", nil)
}
