package sqlite

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/fraiseql/observer"
)

// Capture says which table is recorded, and as what.
type Capture struct {
	// Table is the name of the table. Case does not matter.
	Table string `json:"table"`
	// Entity is the entity type of its events, such as "Order". Required.
	Entity string `json:"entity"`
	// Key are the columns that identify a row; default: the primary key, or the
	// rowid of a table without one (shown as "rowid").
	Key []string `json:"key,omitempty"`
	// Columns limits the images to these columns and the key; default: all.
	Columns []string `json:"columns,omitempty"`
	// Tenant is a column whose value becomes the tenant id; default: none.
	Tenant string `json:"tenant,omitempty"`
}

// spec is what the triggers of a capture were made from. It stands in a
// comment in each of them, where it follows the table through renames.
type spec struct {
	// ID tells this installation from every other one: a table can be renamed,
	// and another one take its name.
	ID string `json:"id"`
	Capture
	// All are the columns the table had, in their order.
	All []string `json:"all"`
}

// AddCapture installs the triggers that record every change of a table, and
// creates the change log where it is missing. It replaces the triggers of an
// earlier call, so calling it again takes up new columns. It returns the
// capture with the table's own spelling and the key it uses. The file must
// exist; a table or column that does not gives an error that matches
// [observer.ErrNotFound]. Triggers are only left behind when they compile
// against the table.
func AddCapture(ctx context.Context, path string, c Capture) (_ Capture, err error) {
	if c.Entity == "" {
		return c, errors.New("add capture: the entity type is missing")
	}
	db, err := open(ctx, path, writing)
	if err != nil {
		return c, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	// Refuse before anything is created: a typing error leaves no trace.
	if _, err := resolve(ctx, db, c); err != nil {
		return c, fmt.Errorf("add capture to %s: %w", path, err)
	}
	if err := migrate(ctx, db); err != nil {
		return c, fmt.Errorf("add capture to %s: %w", path, err)
	}
	err = inWrite(ctx, db, func(tx *sql.Tx) error {
		t, err := resolve(ctx, tx, c)
		if err != nil {
			return err
		}
		c = t.spec.Capture
		return install(ctx, tx, t)
	})
	if err != nil {
		return c, fmt.Errorf("add capture to %s: %w", path, err)
	}
	return c, nil
}

// RemoveCapture drops the triggers of a table. What they recorded stays. A
// table without a capture gives an error that matches [observer.ErrNotFound].
func RemoveCapture(ctx context.Context, path, table string) (err error) {
	db, err := open(ctx, path, writing)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = inWrite(ctx, db, func(tx *sql.Tx) error {
		dropped, err := dropTriggers(ctx, tx, table)
		if err != nil {
			return err
		}
		forgotten, err := forget(ctx, tx, forgetTable, table)
		if err == nil && dropped == 0 && !forgotten {
			err = fmt.Errorf("table %s is not captured: %w", table, observer.ErrNotFound)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("remove capture from %s: %w", path, err)
	}
	return nil
}

func inWrite(ctx context.Context, db *sql.DB, f func(*sql.Tx) error) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := f(tx); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func install(ctx context.Context, tx *sql.Tx, t *table) error {
	if _, err := dropTriggers(ctx, tx, t.name); err != nil {
		return err
	}
	t.spec.ID = strings.ToLower(rand.Text()[:8])
	for _, statement := range t.triggers() {
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return fmt.Errorf("create trigger on %s: %w", t.name, err)
		}
	}
	if err := t.checkTriggers(ctx, tx); err != nil {
		return err
	}
	text, err := json.Marshal(t.spec)
	if err != nil {
		return err
	}
	_, err = tx.ExecContext(ctx, `INSERT INTO tb_entity_change_log_capture (table_name, spec) VALUES (?, ?)
		ON CONFLICT (table_name) DO UPDATE SET table_name = excluded.table_name, spec = excluded.spec`, t.name, string(text))
	if err != nil {
		return fmt.Errorf("remember the capture of %s: %w", t.name, err)
	}
	return nil
}

// checkTriggers compiles a statement of each kind. SQLite looks into a trigger
// only when it fires, and an error there would be the application's.
func (t *table) checkTriggers(ctx context.Context, tx *sql.Tx) error {
	name, column := quoteName(t.name), quoteName(t.settable)
	for _, statement := range []string{
		"INSERT INTO " + name + " DEFAULT VALUES",
		"UPDATE " + name + " SET " + column + " = " + column,
		"DELETE FROM " + name,
	} {
		// EXPLAIN compiles the statement and runs nothing of it.
		if _, err := tx.ExecContext(ctx, "EXPLAIN "+statement); err != nil {
			return fmt.Errorf("the triggers for %s do not work, nothing was installed: %w", t.name, err)
		}
	}
	return nil
}

const triggerPrefix = "fraiseql_capture_"

// ownTriggers are the names of our triggers on a table, under whatever name the
// table had when they were made.
func ownTriggers(ctx context.Context, q queryer, table string) ([]string, error) {
	return strs(ctx, q, `SELECT name FROM sqlite_schema WHERE type = 'trigger'
		AND tbl_name = ? COLLATE NOCASE AND name GLOB ? ORDER BY name`, table, triggerPrefix+"*")
}

func dropTriggers(ctx context.Context, tx *sql.Tx, table string) (int, error) {
	names, err := ownTriggers(ctx, tx, table)
	if err != nil {
		return 0, fmt.Errorf("list the triggers of %s: %w", table, err)
	}
	for _, name := range names {
		s, err := specOf(ctx, tx, name)
		if err != nil {
			return 0, err
		}
		if _, err := tx.ExecContext(ctx, "DROP TRIGGER "+quoteName(name)); err != nil {
			return 0, fmt.Errorf("drop trigger %s: %w", name, err)
		}
		if _, err := forget(ctx, tx, forgetID, s.ID); err != nil {
			return 0, err
		}
	}
	return len(names), nil
}

const (
	forgetTable = "DELETE FROM tb_entity_change_log_capture WHERE table_name = ?"
	forgetID    = "DELETE FROM tb_entity_change_log_capture WHERE json_extract(spec, '$.id') = ?"
)

// forget strikes a capture from the list of captures, if there is a list.
func forget(ctx context.Context, tx *sql.Tx, statement, arg string) (bool, error) {
	if _, err := inspectLog(ctx, tx); errors.Is(err, ErrNoLog) {
		return false, nil
	}
	res, err := tx.ExecContext(ctx, statement, arg)
	if err != nil {
		return false, fmt.Errorf("strike from the list of captures: %w", err)
	}
	n, err := res.RowsAffected()
	return n > 0, err
}

// specOf reads what a trigger was made from.
func specOf(ctx context.Context, q queryer, trigger string) (spec, error) {
	var s spec
	var text string
	if err := q.QueryRowContext(ctx, "SELECT sql FROM sqlite_schema WHERE type = 'trigger' AND name = ?", trigger).Scan(&text); err != nil {
		return s, fmt.Errorf("read trigger %s: %w", trigger, err)
	}
	_, text, _ = strings.Cut(text, specOpen)
	text, _, found := strings.Cut(text, specClose)
	if !found || json.Unmarshal([]byte(text), &s) != nil {
		return s, fmt.Errorf("trigger %s was changed by hand: its description cannot be read; drop it and add the capture again", trigger)
	}
	return s, nil
}
