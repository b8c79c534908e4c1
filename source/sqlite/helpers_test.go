package sqlite_test

import (
	"context"
	"database/sql"
	"errors"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

// database is a user's database and its connection.
type database struct {
	*sql.DB
	path string
}

// newDatabase makes a database file as an application would, and runs its
// schema.
func newDatabase(t testing.TB, schema ...string) *database {
	t.Helper()
	// A name full of what means something in a URI.
	return connect(t, filepath.Join(t.TempDir(), "a b?c#d%41&e=é.db"), schema...)
}

func connect(t testing.TB, path string, statements ...string) *database {
	t.Helper()
	u := url.URL{Path: path}
	db, err := sql.Open("sqlite", "file:"+u.EscapedPath()+"?_txlock=immediate&_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)&_pragma=foreign_keys(1)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	d := &database{DB: db, path: path}
	d.must(t, "SELECT 1 FROM sqlite_schema")
	for _, s := range statements {
		d.must(t, s)
	}
	return d
}

func (d *database) must(t testing.TB, statement string, args ...any) {
	t.Helper()
	if _, err := d.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%.200s: %v", statement, err)
	}
}

// migrated is a database with an empty change log.
func migrated(t testing.TB) *database {
	t.Helper()
	d := newDatabase(t)
	if err := sqlite.Migrate(t.Context(), d.path); err != nil {
		t.Fatal(err)
	}
	return d
}

// captured is a database with a table that is captured as entity E.
func captured(t testing.TB, c sqlite.Capture, schema ...string) *database {
	t.Helper()
	d := newDatabase(t, schema...)
	c.Entity = "E"
	if _, err := sqlite.AddCapture(t.Context(), d.path, c); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *database) source() *sqlite.Source {
	return sqlite.New(sqlite.Config{Name: "shop", Path: d.path, BatchSize: 50})
}

// append writes events into the log as an application does by hand.
func (d *database) append(ctx context.Context, commit bool, events ...*observer.Event) error {
	tx, err := d.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	for _, e := range events {
		_, err := tx.ExecContext(ctx, `INSERT INTO tb_entity_change_log
			(id, object_type, modification_type, object_id, object_data, object_data_before, created_at) VALUES (?,?,?,?,?,?,?)`,
			e.ID, e.EntityType, string(e.Operation), nullable(e.EntityID), nullable(string(e.Data)), nullable(string(e.Before)),
			e.Timestamp.Format(time.RFC3339Nano))
		if err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	if commit {
		return tx.Commit()
	}
	return tx.Rollback()
}

func nullable(s string) any {
	if s == "" {
		return nil
	}
	return s
}

// openStream opens a source and closes it with the test.
func openStream(t testing.TB, s observer.Source, after observer.Position) observer.Stream {
	t.Helper()
	st, err := s.Open(t.Context(), after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close(context.WithoutCancel(t.Context())) })
	return st
}

// next reads one message, within a time that only a broken reader needs.
func next(t testing.TB, s observer.Stream) observer.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	m, err := s.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// all reads everything the log holds.
func (d *database) all(t testing.TB) []observer.Message {
	t.Helper()
	var n int
	if err := d.QueryRowContext(t.Context(), "SELECT count(*) FROM tb_entity_change_log").Scan(&n); err != nil {
		t.Fatal(err)
	}
	s := openStream(t, d.source(), "")
	var list []observer.Message
	for range n {
		list = append(list, next(t, s))
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return list
}
