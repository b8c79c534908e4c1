package capture

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer/source/postgres/changelog"
)

// Capture says which table is recorded, and as what.
type Capture struct {
	// Table is the name of the table, with its schema or found by the search path,
	// and quoted as in SQL or not.
	Table string `json:"table"`
	// Entity is the entity type of its events, such as "Order". Required.
	Entity string `json:"entity"`
	// Key are the columns that identify a row; default: the primary key.
	Key []string `json:"key,omitempty"`
	// Tenant is a column whose value becomes the tenant id; default: none, and for
	// a row where it is NULL: the session's fraiseql.tenant_id.
	Tenant string `json:"tenant,omitempty"`
	// BeforeImage records rows as they were before an UPDATE. Without it events of
	// UPDATE have no changes; a DELETE always has the row that was deleted.
	BeforeImage bool `json:"before_image,omitempty"`
	// Columns limits the images to these columns and the key; default: all, those
	// that are added later too.
	Columns []string `json:"columns,omitempty"`
	// Options say where the change log is.
	Options changelog.Options `json:"-"`
}

// spec is what a function was made from. It stands in a comment in it, where it
// follows the table through renames, dumps and restores.
type spec struct {
	// ID is part of the name of the function.
	ID string `json:"id"`
	Capture
	// All are the columns the table had, and Numbers their attribute numbers.
	All     []string `json:"all"`
	Numbers []int16  `json:"numbers"`
	// Log is the change log it writes to, quoted.
	Log string `json:"log"`
}

const (
	functionPrefix = "capture_"
	triggerPrefix  = "fraiseql_capture_"
)

// function is the name of the function, which says for people what it is for.
func (s *spec) function() string {
	table := s.Table
	for len(functionPrefix)+len(table)+1+len(s.ID) > 63 {
		_, size := utf8.DecodeLastRuneInString(table)
		table = table[:len(table)-size]
	}
	return functionPrefix + table + "_" + s.ID
}

// lockPatience bounds how long writers may queue up behind a statement that waits
// for the table.
const lockPatience = "5s"

// Add installs the function and the triggers that record every change of a table,
// and of its partitions, and creates the change log where it is missing. It
// replaces an earlier capture in one transaction, so that no change is missed or
// recorded twice. It returns the capture with the table's own spelling and the key
// it uses. A table or column that does not exist gives an error that matches
// [observer.ErrNotFound].
func Add(ctx context.Context, url string, c Capture) (_ Capture, err error) {
	conn, err := changelog.Connect(ctx, url)
	if err != nil {
		return c, fmt.Errorf("add capture: %w", err)
	}
	defer func() { err = errors.Join(err, conn.Close(context.WithoutCancel(ctx))) }()
	// Refuse before anything is created: a typing error leaves no trace.
	if _, err = checked(ctx, conn, c); err == nil {
		err = changelog.Migrate(ctx, url, c.Options)
	}
	if err != nil {
		return c, fmt.Errorf("add capture: %w", err)
	}
	added, err := add(ctx, conn, c)
	if err != nil {
		return c, fmt.Errorf("add capture: %w", err)
	}
	return added, nil
}

func checked(ctx context.Context, q queryer, c Capture) (*table, error) {
	if c.Entity == "" {
		return nil, errors.New("the entity type is missing")
	}
	if strings.ContainsFunc(c.Options.Log.String(), func(r rune) bool { return r < ' ' }) {
		return nil, fmt.Errorf("the name of the change log, %q, holds a control character", c.Options.Log)
	}
	return resolve(ctx, q, c)
}

func add(ctx context.Context, conn *pgx.Conn, c Capture) (Capture, error) {
	err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if err := alone(ctx, tx, c.Options); err != nil {
			return err
		}
		t, err := checked(ctx, tx, c)
		if err != nil {
			return err
		}
		if _, err := drop(ctx, tx, t.opts, target{oid: t.oid, name: t.spec.Table}); err != nil {
			return err
		}
		c = t.spec.Capture
		return t.install(ctx, tx)
	})
	return c, busy(err, c.Table)
}

// alone keeps two of us from working at once, and writers from waiting long.
func alone(ctx context.Context, tx pgx.Tx, o changelog.Options) error {
	o = o.OrDefault()
	_, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "fraiseql observer capture "+o.Schema)
	if err == nil {
		_, err = tx.Exec(ctx, "SET LOCAL lock_timeout = '"+lockPatience+"'")
	}
	return err
}

// busy explains a table that could not be locked.
func busy(err error, table string) error {
	if failed, ok := errors.AsType[*pgconn.PgError](err); ok && failed.Code == "55P03" {
		return fmt.Errorf("table %s is in use by a transaction that has not ended in %s; nothing was changed, try again: %w", table, lockPatience, err)
	}
	return err
}

func (t *table) install(ctx context.Context, tx pgx.Tx) error {
	if err := t.tryLog(ctx, tx); err != nil {
		return err
	}
	t.spec.ID = strings.ToLower(rand.Text()[:8])
	statements := []string{t.definition(), "REVOKE ALL ON FUNCTION " + t.function() + "() FROM PUBLIC"}
	relations, err := relationsOf(ctx, tx, t.oid)
	if err != nil {
		return err
	}
	for _, r := range relations {
		statements = append(statements, t.triggers(r)...)
	}
	for _, s := range statements {
		if _, err := tx.Exec(ctx, s); err != nil {
			return fmt.Errorf("install on %s: %w", t.spec.Table, err)
		}
	}
	return nil
}

// tryLog writes an event and takes it back. What the log refuses to the owner of
// the function, it would refuse to the application.
func (t *table) tryLog(ctx context.Context, tx pgx.Tx) error {
	try, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	_, err = try.Exec(ctx, "INSERT INTO "+t.opts.Log.String()+" (object_type, modification_type) VALUES ($1, 'CUSTOM')", t.spec.Entity)
	if err == nil {
		_, err = try.Exec(ctx, "SELECT FROM "+t.opts.Log.String()+" WHERE false")
	}
	if back := try.Rollback(ctx); back != nil {
		return errors.Join(err, back)
	}
	if err != nil {
		return fmt.Errorf("the change log %s refuses an event from this role, with whose rights the triggers would run: %w", t.opts.Log, err)
	}
	return nil
}

// kinds are the triggers of a capture.
func kinds() []string { return []string{"insert", "update", "delete", "truncate"} }

func (t *table) triggers(relation string) (list []string) {
	tables := map[string]string{
		"insert": " REFERENCING NEW TABLE AS " + newRows,
		"update": " REFERENCING OLD TABLE AS " + oldRows + " NEW TABLE AS " + newRows,
		"delete": " REFERENCING OLD TABLE AS " + oldRows,
	}
	for _, kind := range kinds() {
		list = append(list, fmt.Sprintf("CREATE TRIGGER %s AFTER %s ON %s%s FOR EACH STATEMENT EXECUTE FUNCTION %s()",
			triggerPrefix+kind, strings.ToUpper(kind), relation, tables[kind], t.function()))
	}
	return list
}

// relationsOf are a table and its partitions, quoted. A statement that names a
// partition fires the triggers of that partition and no others.
func relationsOf(ctx context.Context, q queryer, oid uint32) ([]string, error) {
	rows, err := q.Query(ctx, `SELECT format('%I.%I', s.nspname, c.relname) FROM pg_class c JOIN pg_namespace s ON s.oid = c.relnamespace
		WHERE c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_tree($1::oid::regclass)) AND c.relkind IN ('r', 'p')
		ORDER BY c.oid <> $1, 1`, oid)
	if err != nil {
		return nil, fmt.Errorf("list the partitions: %w", err)
	}
	list, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("list the partitions: %w", err)
	}
	return list, nil
}
