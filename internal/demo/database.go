package demo

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib" // the driver of the shop

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
	"github.com/fraiseql/observer/source/sqlite"
)

// database is where the demo runs: the orders, their change log, and the state.
type database interface {
	// place is shown to people.
	place() string
	// sections are [[databases]] and [state] of the configuration. What begins
	// with $ in them is looked up.
	sections() string
	lookup(name string) (string, bool)
	// open makes the table of the shop and captures it. When it fails, it leaves
	// nothing behind.
	open(ctx context.Context) (*sql.DB, error)
	// in writes a statement as this database wants it.
	in(query string) string
	// drop removes everything that was made.
	drop(ctx context.Context) error
}

// sqliteDatabase is a folder with two files, which goes with the folder.
type sqliteDatabase struct{ dir string }

func (d sqliteDatabase) place() string { return filepath.Join(d.dir, "shop.db") }

func (d sqliteDatabase) sections() string {
	// Paths are literal strings, because those of Windows have backslashes.
	return "[[databases]]\nname = \"shop\"\nurl = 'sqlite:" + d.place() + "'\n\n" +
		"[state]\nurl = 'sqlite:" + filepath.Join(d.dir, "state.db") + "'\n"
}

func (d sqliteDatabase) lookup(string) (string, bool) { return "", false }

func (d sqliteDatabase) in(query string) string { return query }

func (d sqliteDatabase) drop(context.Context) error { return nil }

func (d sqliteDatabase) open(ctx context.Context) (*sql.DB, error) {
	path := d.place()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", path+"?_txlock=immediate&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(normal)")
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	_, err = db.ExecContext(ctx, `CREATE TABLE orders (
		id INTEGER PRIMARY KEY, status TEXT NOT NULL, total REAL NOT NULL, version INTEGER NOT NULL)`)
	if err == nil {
		_, err = sqlite.AddCapture(ctx, path, sqlite.Capture{Table: "orders", Entity: "Order"})
	}
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// postgresDatabase is two schemas of its own, for the orders and their change log
// and for what is the daemon's, in a database that other things live in, too.
type postgresDatabase struct {
	at     config.Database
	schema string
}

func newPostgresDatabase(at config.Database) postgresDatabase {
	return postgresDatabase{at: at, schema: "fraiseql_demo_" + strings.ToLower(rand.Text()[:10])}
}

const (
	urlVariable = "DEMO_URL"
	logTable    = "tb_entity_change_log"
)

func (d postgresDatabase) place() string {
	return d.at.Place() + ", schemas " + d.schema + " and " + d.own()
}

func (d postgresDatabase) sections() string {
	return fmt.Sprintf("[[databases]]\nname = \"shop\"\nurl_env = %q\nlog = %q\n\n[state]\nschema = %q\n",
		urlVariable, d.schema+"."+logTable, d.own())
}

func (d postgresDatabase) lookup(name string) (string, bool) {
	return d.at.URL.Reveal(), name == urlVariable
}

func (d postgresDatabase) in(query string) string {
	query = strings.ReplaceAll(query, " orders ", " "+d.table()+" ")
	for n := 1; strings.Contains(query, "?"); n++ {
		query = strings.Replace(query, "?", "$"+strconv.Itoa(n), 1)
	}
	return query
}

// own is the schema of the daemon.
func (d postgresDatabase) own() string { return d.schema + "_state" }

func (d postgresDatabase) table() string { return pgx.Identifier{d.schema, "orders"}.Sanitize() }

func (d postgresDatabase) open(ctx context.Context) (*sql.DB, error) {
	db, err := sql.Open("pgx", d.at.URL.Reveal())
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(ctx, "CREATE SCHEMA "+pgx.Identifier{d.schema}.Sanitize()); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	if err := d.prepare(ctx, db); err != nil {
		return nil, errors.Join(err, db.Close(), d.drop(ctx))
	}
	return db, nil
}

func (d postgresDatabase) prepare(ctx context.Context, db *sql.DB) error {
	if _, err := db.ExecContext(ctx, "CREATE TABLE "+d.table()+` (
			id bigint PRIMARY KEY, status text NOT NULL, total numeric(10, 2) NOT NULL, version bigint NOT NULL)`); err != nil {
		return err
	}
	_, err := capture.Add(ctx, d.at.URL.Reveal(), capture.Capture{
		Table: d.table(), Entity: "Order", BeforeImage: true,
		Options: changelog.Options{Log: changelog.Name{Schema: d.schema, Table: logTable}, Schema: d.own()},
	})
	return err
}

// dropPatience is how long the schema may take to go.
const dropPatience = 30 * time.Second

func (d postgresDatabase) drop(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropPatience)
	defer cancel()
	conn, err := changelog.Connect(ctx, d.at.URL.Reveal())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	// The tables of the server say nothing: that they go, too, is what was asked.
	drop := "SET client_min_messages = warning; DROP SCHEMA IF EXISTS " + pgx.Identifier{d.schema}.Sanitize() + ", " +
		pgx.Identifier{d.own()}.Sanitize() + " CASCADE"
	if _, err := conn.Exec(ctx, drop, pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("%w; drop the schemas %s and %s yourself", err, d.schema, d.own())
	}
	return nil
}
