package changelog

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

// Migrate creates the change log, or completes one that exists, and brings what
// belongs to it up to date. It only ever adds, may be called any number of times
// and by several processes at once, and does nothing, for which no rights are
// needed, when nothing is missing. It waits at most ten seconds for a lock on a
// table that is in use.
func Migrate(ctx context.Context, url string, o Options) (err error) {
	o = o.OrDefault()
	if err := o.check(); err != nil {
		return err
	}
	conn, err := Connect(ctx, url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	if err = Ready(ctx, conn, o); !errors.Is(err, ErrNotReady) {
		return err
	}
	if err = refuseForeign(ctx, conn, o.Log); err != nil {
		return err
	}
	if o.Notify == "" {
		if o.Notify, err = stored(ctx, conn, o); err != nil {
			return fmt.Errorf("read the wake-up mode: %w", err)
		}
	}
	if err = migrate(ctx, conn, o); err != nil {
		return fmt.Errorf("migrate change log %s: %w", o.Log.plain(), err)
	}
	return Ready(ctx, conn, o)
}

// Connect opens a connection. Its errors do not contain the password of the URL.
func Connect(ctx context.Context, url string) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		// The cause may repeat the URL, password included.
		return nil, errors.New("the URL of the database cannot be read (want postgres://user:password@host:port/database)")
	}
	// Prepared statements do not survive a pooler in transaction mode.
	config.DefaultQueryExecMode = pgx.QueryExecModeExec
	return pgx.ConnectConfig(ctx, config)
}

// refuseForeign keeps from adding columns to a table that is something else.
func refuseForeign(ctx context.Context, conn *pgx.Conn, n Name) error {
	l, err := Inspect(ctx, conn, n)
	if errors.Is(err, ErrNoLog) {
		if l.TableOID != 0 {
			return err
		}
		return nil
	}
	if err != nil {
		return err
	}
	for _, c := range required() {
		if !l.Columns[c.name] {
			return fmt.Errorf("table %s exists and is not a change log: it has no column %s", n.plain(), c.name)
		}
	}
	return nil
}

// stored is the mode that was set last.
func stored(ctx context.Context, conn *pgx.Conn, o Options) (mode Notify, err error) {
	var there bool
	if err := conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", o.own(settingTable)).Scan(&there); err != nil || !there {
		return "", err
	}
	err = conn.QueryRow(ctx, "SELECT coalesce(max(value), '') FROM "+o.own(settingTable)+" WHERE name = $1", notifySetting).Scan(&mode)
	return mode, err
}

func migrate(ctx context.Context, conn *pgx.Conn, o Options) error {
	if err := inTransaction(ctx, conn, head(o)); err != nil {
		return err
	}
	if err := up(ctx, conn.Config(), o); err != nil {
		return err
	}
	if err := Ready(ctx, conn, o); !errors.Is(err, ErrNotReady) {
		return err
	}
	// Every version has run, and something has gone since.
	return inTransaction(ctx, conn, append(head(o), migration(o)...))
}

func inTransaction(ctx context.Context, conn *pgx.Conn, statements []string) error {
	return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		for _, s := range statements {
			if _, err := tx.Exec(ctx, s); err != nil {
				return err
			}
		}
		return nil
	})
}

// up runs the versions that have not run, under goose's lock.
func up(ctx context.Context, config *pgx.ConnConfig, o Options) (err error) {
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockID(lockKey("migration of versions", o.Schema)), lock.WithLockTimeout(1, 300))
	if err != nil {
		return err
	}
	store, err := database.NewStore(database.DialectPostgres, o.own(versionTable))
	if err != nil {
		return err
	}
	first := goose.NewGoMigration(version, &goose.GoFunc{RunTx: func(ctx context.Context, tx *sql.Tx) error {
		for _, s := range migration(o) {
			if _, err := tx.ExecContext(ctx, s); err != nil {
				return err
			}
		}
		return nil
	}}, nil)
	p, err := goose.NewProvider(goose.DialectCustom, db, nil, goose.WithStore(versions{store}), goose.WithGoMigrations(first),
		goose.WithSessionLocker(locker), goose.WithDisableGlobalRegistry(true), goose.WithLogger(goose.NopLogger()))
	if err != nil {
		return err
	}
	_, err = p.Up(ctx)
	return err
}

// versions is goose's table of versions under any name: goose itself looks for
// the quotes of a name as if they belonged to it.
type versions struct{ database.Store }

// TableExists knows that the table was made before goose began.
func (versions) TableExists(context.Context, database.DBTxConn) (bool, error) { return true, nil }
