package capture

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Remove drops the triggers and the function of a table. What they recorded stays.
// It also takes away what a dropped table left behind. A table without a capture
// gives an error that matches [observer.ErrNotFound].
func Remove(ctx context.Context, url, name string, o changelog.Options) (err error) {
	conn, err := changelog.Connect(ctx, url)
	if err != nil {
		return fmt.Errorf("remove capture: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := alone(ctx, tx, o); err != nil {
			return err
		}
		which := target{name: name}
		oid, err := lookUp(ctx, tx, name)
		switch {
		case err == nil:
			which.oid = oid
			err = tx.QueryRow(ctx, "SELECT format('%I.%I', s.nspname, c.relname) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace WHERE c.oid = $1", oid).Scan(&which.name)
		case errors.Is(err, observer.ErrNotFound): // a dropped table leaves its function
			err = nil
		}
		if err != nil {
			return err
		}
		dropped, err := drop(ctx, tx, o.OrDefault(), which)
		if err == nil && dropped == 0 {
			err = fmt.Errorf("table %s is not captured: %w", name, observer.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove capture: %w", busy(err, name))
	}
	return nil
}

// target is the table whose capture is dropped; oid is 0 when it is gone.
type target struct {
	oid  uint32
	name string
}

// drop takes a capture away: the functions that triggers of the table call, and
// those that no table calls any more and that were made for one of its name.
func drop(ctx context.Context, tx pgx.Tx, o changelog.Options, which target) (dropped int, err error) {
	all, err := installed(ctx, tx, o.Schema)
	if err != nil {
		return 0, err
	}
	for _, f := range all {
		attached, err := f.triggers(ctx, tx)
		if err != nil {
			return 0, err
		}
		if !f.belongs(which, attached) {
			continue
		}
		dropped++
		others := false
		for _, a := range attached {
			if a.root != which.oid {
				others = true // as a partition that was detached
				continue
			}
			if _, err := tx.Exec(ctx, "DROP TRIGGER "+changelog.QuoteName(a.name)+" ON "+a.relation); err != nil {
				return 0, fmt.Errorf("drop trigger %s on %s: %w", a.name, a.relation, err)
			}
		}
		if others {
			continue
		}
		if _, err := tx.Exec(ctx, "DROP FUNCTION "+changelog.QuoteName(o.Schema, f.name)); err != nil {
			return 0, fmt.Errorf("drop function %s: %w", f.name, err)
		}
	}
	return dropped, nil
}
