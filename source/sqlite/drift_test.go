package sqlite_test

import (
	"errors"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

func list(t *testing.T, d *database) []sqlite.CaptureStatus {
	t.Helper()
	got, err := sqlite.ListCaptures(t.Context(), d.path)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestListCaptures(t *testing.T) {
	t.Parallel()
	plain := sqlite.Capture{Table: "t", Entity: "E", Key: []string{"id"}}
	tests := []struct {
		name    string
		capture sqlite.Capture
		run     []string
		want    []sqlite.CaptureStatus
	}{
		{"as installed", sqlite.Capture{Table: "T"}, nil, []sqlite.CaptureStatus{{Capture: plain}}},
		{"with everything", sqlite.Capture{Table: "t", Key: []string{"b", "id"}, Columns: []string{"a"}, Tenant: "b"}, nil,
			[]sqlite.CaptureStatus{{Capture: sqlite.Capture{Table: "t", Entity: "E", Key: []string{"b", "id"}, Columns: []string{"a"}, Tenant: "b"}}}},
		{"column added", sqlite.Capture{Table: "t"}, []string{"ALTER TABLE t ADD COLUMN c"},
			[]sqlite.CaptureStatus{{Capture: plain, Drift: []string{"column c was added: events do not carry it"}}}},
		{"column renamed", sqlite.Capture{Table: "t"}, []string{"ALTER TABLE t RENAME COLUMN a TO c", "ALTER TABLE t ADD COLUMN d"},
			[]sqlite.CaptureStatus{{Capture: plain, Drift: []string{
				"column a was renamed to c: events still call it a", "column d was added: events do not carry it",
			}}}},
		{"table renamed", sqlite.Capture{Table: "t"}, []string{"ALTER TABLE t RENAME TO t2"},
			[]sqlite.CaptureStatus{{Capture: sqlite.Capture{Table: "t2", Entity: "E", Key: []string{"id"}}, Drift: []string{"the table was renamed from t"}}}},
		{"table made anew", sqlite.Capture{Table: "t"}, []string{"DROP TABLE t", "CREATE TABLE t (id INTEGER PRIMARY KEY)"},
			[]sqlite.CaptureStatus{{Capture: plain, Drift: []string{"its triggers are gone, as after making the table anew: changes are not recorded"}}}},
		{"table dropped", sqlite.Capture{Table: "t"}, []string{"DROP TABLE t"},
			[]sqlite.CaptureStatus{{Capture: plain, Drift: []string{"the table is gone"}}}},
		{"columns dropped behind SQLite's back", sqlite.Capture{Table: "t"}, []string{
			"PRAGMA writable_schema = 1", "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a)' WHERE name = 't'",
		}, []sqlite.CaptureStatus{{Capture: plain, Drift: []string{"column b was removed"}}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := captured(t, tt.capture, "CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
			for _, s := range tt.run {
				d.must(t, s)
			}
			if diff := cmp.Diff(tt.want, list(t, d), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("captures (-want +got):\n%s", diff)
			}
		})
	}
}

// After every change SQLite allows, the application's statements still work,
// the change is still recorded, and adding the capture again mends the drift.
func TestAddCaptureAgain(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
	d.must(t, "ALTER TABLE t RENAME COLUMN a TO b")
	d.must(t, "ALTER TABLE t RENAME TO u")
	// The old name can be used by another table.
	d.must(t, "CREATE TABLE t (id INTEGER PRIMARY KEY)")
	if _, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "t", Entity: "E"}); err != nil {
		t.Fatal(err)
	}
	d.must(t, "ALTER TABLE u ADD COLUMN c")
	d.must(t, "INSERT INTO u VALUES (1, 2, 3)")
	if _, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "u", Entity: "E"}); err != nil {
		t.Fatal(err)
	}
	d.must(t, "INSERT INTO u VALUES (2, 3, 4)")
	d.check(t, insert("1", `{"id":1,"a":2}`), insert("2", `{"id":2,"b":3,"c":4}`))
	got := list(t, d)
	if len(got) != 2 || got[0].Table != "t" || got[1].Table != "u" || len(got[0].Drift)+len(got[1].Drift) != 0 {
		t.Errorf("after adding it again: %+v", got)
	}
	// What is lost now is not taken for the renamed table's.
	d.must(t, "DROP TABLE t")
	if got := list(t, d); len(got) != 2 || !cmp.Equal(got[0].Drift, []string{"the table is gone"}) || len(got[1].Drift) != 0 {
		t.Errorf("after dropping the table that took the name: %+v", got)
	}
}

func TestDropOfCapturedColumnIsRefused(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
	if _, err := d.ExecContext(t.Context(), "ALTER TABLE t DROP COLUMN a"); err == nil {
		t.Error("SQLite dropped a column that a trigger reads; the documentation says that it refuses")
	}
	if err := sqlite.RemoveCapture(t.Context(), d.path, "T"); err != nil {
		t.Fatal(err)
	}
	d.must(t, "ALTER TABLE t DROP COLUMN a")
	d.must(t, "INSERT INTO t VALUES (1)")
	d.check(t)
}

func TestRemoveCapture(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE u (id INTEGER PRIMARY KEY)")
	d.must(t, "INSERT INTO t VALUES (1)")
	if err := sqlite.RemoveCapture(t.Context(), d.path, "t"); err != nil {
		t.Fatal(err)
	}
	d.must(t, "INSERT INTO t VALUES (2)")
	d.check(t, insert("1", `{"id":1}`))
	if got := list(t, d); len(got) != 0 {
		t.Errorf("captures after removing the only one: %+v", got)
	}
	for _, table := range []string{"t", "u", "nowhere"} {
		if err := sqlite.RemoveCapture(t.Context(), d.path, table); !errors.Is(err, observer.ErrNotFound) {
			t.Errorf("removing the capture of %s: %v, want one that matches ErrNotFound", table, err)
		}
	}
}

func TestAddCaptureRefuses(t *testing.T) {
	t.Parallel()
	d := newDatabase(t,
		"CREATE TABLE orders (id INTEGER PRIMARY KEY, total)", "CREATE TABLE customers (id INTEGER PRIMARY KEY)",
		"CREATE VIEW v AS SELECT * FROM orders", "CREATE VIRTUAL TABLE f USING fts5(x)",
		"CREATE TABLE hidden (rowid, _rowid_, oid)")
	for _, tt := range []struct {
		name    string
		capture sqlite.Capture
		want    string
		missing bool
	}{
		{"misspelled table", sqlite.Capture{Table: "oders", Entity: "E"}, `there is no table "oders" (the nearest names are orders, `, true},
		{"misspelled column", sqlite.Capture{Table: "orders", Entity: "E", Columns: []string{"totl"}}, `no column "totl" (the nearest names are total, id)`, true},
		{"misspelled key", sqlite.Capture{Table: "orders", Entity: "E", Key: []string{"idd"}}, `no column "idd"`, true},
		{"misspelled tenant", sqlite.Capture{Table: "customers", Entity: "E", Tenant: "x"}, `no column "x" (the nearest name is id)`, true},
		{"view", sqlite.Capture{Table: "v", Entity: "E"}, "v is a view: capture the tables under it", false},
		{"virtual table", sqlite.Capture{Table: "f", Entity: "E"}, "f is a virtual table: ", false},
		{"shadow table", sqlite.Capture{Table: "f_data", Entity: "E"}, "f_data is a shadow table: ", false},
		{"schema", sqlite.Capture{Table: "sqlite_schema", Entity: "E"}, "SQLite's own", false},
		{"no reachable key", sqlite.Capture{Table: "hidden", Entity: "E"}, "name the columns of its key", false},
		{"no entity", sqlite.Capture{Table: "orders"}, "entity type is missing", false},
	} {
		_, err := sqlite.AddCapture(t.Context(), d.path, tt.capture)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v; want an error with %q", tt.name, err, tt.want)
		}
		if errors.Is(err, observer.ErrNotFound) != tt.missing {
			t.Errorf("%s: %v matches ErrNotFound: %t", tt.name, err, !tt.missing)
		}
	}
	var n int
	if err := d.QueryRowContext(t.Context(), "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%change_log%'").Scan(&n); err != nil || n != 0 {
		t.Errorf("%d objects were created by refused calls, %v", n, err)
	}
	if err := sqlite.Migrate(t.Context(), d.path); err != nil {
		t.Fatal(err)
	}
	_, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "tb_entity_change_log", Entity: "E"})
	if err == nil || !strings.Contains(err.Error(), "belongs to the change log") {
		t.Errorf("capturing the log in itself: %v", err)
	}
}

// Triggers that would fail the application's statements are not left behind.
func TestAddCaptureChecksTheTriggers(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TRIGGER broken AFTER DELETE ON t BEGIN DELETE FROM nowhere; END")
	_, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "t", Entity: "E"})
	if err == nil || !strings.Contains(err.Error(), "nothing was installed: SQL logic error: no such table: main.nowhere") {
		t.Errorf("capturing a table with a broken trigger: %v", err)
	}
	if got := list(t, d); len(got) != 0 {
		t.Errorf("captures: %+v", got)
	}
	d.must(t, "INSERT INTO t VALUES (1)")
	d.check(t)
}

func TestMigrateByManyAtOnce(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, "CREATE TABLE t (id INTEGER PRIMARY KEY)", "CREATE TABLE goose_db_version (theirs)")
	var wg sync.WaitGroup
	errs := make(chan error, 8)
	for range cap(errs) {
		wg.Go(func() {
			_, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "t", Entity: "E"})
			errs <- err
		})
	}
	wg.Wait()
	for range cap(errs) {
		if err := <-errs; err != nil {
			t.Errorf("one of several: %v", err)
		}
	}
	d.must(t, "INSERT INTO t VALUES (1)")
	d.check(t, insert("1", `{"id":1}`))
	d.must(t, "SELECT theirs FROM goose_db_version")
}

// A log that an older program made is completed, and its rows stay.
func TestMigrateCompletesAnExistingLog(t *testing.T) {
	t.Parallel()
	d := newDatabase(t, `CREATE TABLE tb_entity_change_log (pk_entity_change_log INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT,
		object_type TEXT, modification_type TEXT, created_at TIMESTAMP, object_id TEXT, object_data TEXT, object_data_before TEXT)`,
		`INSERT INTO tb_entity_change_log VALUES (1, 'a', 'E', 'INSERT', '2026-01-02 03:04:05', 1, '{}', NULL)`,
		`INSERT INTO tb_entity_change_log VALUES (2, NULL, 'E', 'INSERT', 'today', 1, '{}', NULL)`,
		"CREATE TABLE t (id INTEGER PRIMARY KEY)")
	if _, err := sqlite.AddCapture(t.Context(), d.path, sqlite.Capture{Table: "t", Entity: "E"}); err != nil {
		t.Fatal(err)
	}
	d.must(t, "INSERT INTO t VALUES (7)")
	got := d.all(t)
	if got[0].Event == nil || got[1].Malformed == nil || got[2].Event == nil || got[2].Event.CDCSource != "fallback_trigger" {
		t.Errorf("messages: %+v", got)
	}
	if _, err := d.ExecContext(t.Context(), "INSERT INTO tb_entity_change_log (id) VALUES ('a')"); err == nil {
		t.Error("the completed log accepts an id twice")
	}
}
