package sqlite_test

import (
	"encoding/json"
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer"
	"github.com/fraiseql/observer/source/sqlite"
)

// want is what must arrive of a change.
type want struct {
	op      observer.Operation
	id      string
	data    string
	changes string // JSON of Changes; "" where there are none
}

func insert(id, data string) want          { return want{observer.Insert, id, data, ""} }
func update(id, data, changes string) want { return want{observer.Update, id, data, changes} }
func del(id, data string) want             { return want{observer.Delete, id, data, ""} }

// check compares the events that arrive, and what all of them have in common.
func (d *database) check(t *testing.T, wants ...want) {
	t.Helper()
	var got []want
	for _, m := range d.all(t) {
		if m.Malformed != nil {
			t.Fatalf("malformed: %s: %s", m.Malformed.Reason, m.Malformed.Raw)
		}
		e := m.Event
		w := want{op: e.Operation, id: e.EntityID, data: string(e.Data)}
		changes, err := e.Changes()
		if err != nil {
			t.Fatal(err)
		}
		if changes != nil {
			b, err := json.Marshal(changes)
			if err != nil {
				t.Fatal(err)
			}
			w.changes = string(b)
		}
		got = append(got, w)
		if e.EntityType != "E" || e.CDCSource != "fallback_trigger" || time.Since(e.Timestamp).Abs() > time.Hour || len(e.ID) != 36 || e.ID[14] != '4' {
			t.Errorf("envelope: %+v", facts(e))
		}
	}
	if diff := cmp.Diff(wants, got, cmp.AllowUnexported(want{})); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func facts(e *observer.Event) []any {
	return []any{e.ID, e.EntityType, e.CDCSource, e.Timestamp}
}

type captureCase struct {
	name    string
	schema  string
	capture sqlite.Capture
	run     []string
	want    []want
}

func runCaptureCases(t *testing.T, cases []captureCase) {
	t.Helper()
	for _, tt := range cases {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if tt.capture.Table == "" {
				tt.capture.Table = "t"
			}
			d := captured(t, tt.capture, tt.schema)
			for _, statement := range tt.run {
				d.must(t, statement)
			}
			d.check(t, tt.want...)
		})
	}
}

func TestCaptureStatements(t *testing.T) {
	t.Parallel()
	const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, a, u UNIQUE)"
	runCaptureCases(t, []captureCase{
		{"three operations", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "UPDATE t SET a = 'y'", "DELETE FROM t",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`),
			update("1", `{"id":1,"a":"y","u":1}`, `{"a":{"old":"x","new":"y"}}`),
			del("1", `{"id":1,"a":"y","u":1}`),
		}},
		{"an update that changes nothing", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "UPDATE t SET a = a",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), update("1", `{"id":1,"a":"x","u":1}`, `{}`),
		}},
		{"a changed key", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "UPDATE t SET id = 2",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), del("1", `{"id":1,"a":"x","u":1}`), insert("2", `{"id":2,"a":"x","u":1}`),
		}},
		{"a key that changes only its case", "CREATE TABLE t (k TEXT PRIMARY KEY COLLATE NOCASE)", sqlite.Capture{}, []string{
			"INSERT INTO t VALUES ('a')", "UPDATE t SET k = 'A'",
		}, []want{
			insert("a", `{"k":"a"}`), del("a", `{"k":"a"}`), insert("A", `{"k":"A"}`),
		}},
		{"upsert", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET a = 'y'",
			"INSERT INTO t VALUES (1, 'x', 1) ON CONFLICT (id) DO UPDATE SET a = 'y'",
			"INSERT INTO t VALUES (1, 'x', 1) ON CONFLICT (id) DO NOTHING",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), update("1", `{"id":1,"a":"y","u":1}`, `{"a":{"old":"x","new":"y"}}`),
		}},
		{"replace without recursive_triggers hides the deletes", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "INSERT OR REPLACE INTO t VALUES (2, 'y', 1)",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), insert("2", `{"id":2,"a":"y","u":1}`),
		}},
		{"replace with recursive_triggers", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "PRAGMA recursive_triggers = 1", "REPLACE INTO t VALUES (2, 'y', 1)",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), del("1", `{"id":1,"a":"x","u":1}`), insert("2", `{"id":2,"a":"y","u":1}`),
		}},
		{"insert or ignore", schema, sqlite.Capture{}, []string{
			"INSERT INTO t VALUES (1, 'x', 1)", "INSERT OR IGNORE INTO t VALUES (1, 'y', 1), (2, 'z', 2)",
		}, []want{
			insert("1", `{"id":1,"a":"x","u":1}`), insert("2", `{"id":2,"a":"z","u":2}`),
		}},
		{"rolled back to a savepoint", schema, sqlite.Capture{}, []string{
			"SAVEPOINT a", "INSERT INTO t VALUES (1, 'x', 1)", "ROLLBACK TO a", "INSERT INTO t VALUES (2, 'x', 1)", "RELEASE a",
		}, []want{insert("2", `{"id":2,"a":"x","u":1}`)}},
		{"delete of all rows", schema, sqlite.Capture{}, []string{
			"INSERT INTO t (id) VALUES (1), (2)", "DELETE FROM t",
		}, []want{
			insert("1", `{"id":1,"a":null,"u":null}`), insert("2", `{"id":2,"a":null,"u":null}`),
			del("1", `{"id":1,"a":null,"u":null}`), del("2", `{"id":2,"a":null,"u":null}`),
		}},
		{"untrusted schema", schema, sqlite.Capture{}, []string{
			"PRAGMA trusted_schema = 0", "INSERT INTO t VALUES (1, 0.5, x'00')",
		}, []want{insert("1", `{"id":1,"a":0.5,"u":"\\x00"}`)}},
	})
}

func TestCaptureCascades(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "child"},
		"CREATE TABLE parent (id INTEGER PRIMARY KEY)",
		"CREATE TABLE child (id INTEGER PRIMARY KEY, p REFERENCES parent ON DELETE CASCADE ON UPDATE CASCADE)")
	for _, s := range []string{
		"INSERT INTO parent VALUES (1)", "INSERT INTO child VALUES (5, 1)",
		"UPDATE parent SET id = 2", "DELETE FROM parent",
	} {
		d.must(t, s)
	}
	d.check(t, insert("5", `{"id":5,"p":1}`), update("5", `{"id":5,"p":2}`, `{"p":{"old":1,"new":2}}`), del("5", `{"id":5,"p":2}`))
}

func TestCaptureKeys(t *testing.T) {
	t.Parallel()
	runCaptureCases(t, []captureCase{
		{"text", "CREATE TABLE t (k TEXT PRIMARY KEY)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('a "b" é 😀')`}, []want{insert(`a "b" é 😀`, `{"k":"a \"b\" é 😀"}`)}},
		{"largest integer", "CREATE TABLE t (k INTEGER PRIMARY KEY)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES (9223372036854775807)`}, []want{insert("9223372036854775807", `{"k":9223372036854775807}`)}},
		{"blob", "CREATE TABLE t (k BLOB PRIMARY KEY)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES (x'00FF')`}, []want{insert(`\x00ff`, `{"k":"\\x00ff"}`)}},
		{"real", "CREATE TABLE t (k REAL PRIMARY KEY)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES (1), (-9e999)`}, []want{insert("1.0", `{"k":1.0}`), insert("-Infinity", `{"k":"-Infinity"}`)}},
		{"composite, in the key's order", "CREATE TABLE t (a TEXT, b INT, v, PRIMARY KEY (b, a))", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('x"', 2, 3)`}, []want{insert(`[2,"x\""]`, `{"a":"x\"","b":2,"v":3}`)}},
		{"without rowid", "CREATE TABLE t (a, b, PRIMARY KEY (a, b)) WITHOUT ROWID", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('x', x'0a')`, `UPDATE t SET b = 1.5`}, []want{
				insert(`["x","\\x0a"]`, `{"a":"x","b":"\\x0a"}`),
				del(`["x","\\x0a"]`, `{"a":"x","b":"\\x0a"}`), insert(`["x",1.5]`, `{"a":"x","b":1.5}`),
			}},
		{"rowid", "CREATE TABLE t (a)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('x')`, `UPDATE t SET a = 'y'`}, []want{
				insert("1", `{"a":"x"}`), update("1", `{"a":"y"}`, `{"a":{"old":"x","new":"y"}}`),
			}},
		{"rowid under another name", "CREATE TABLE t (RowID, _ROWID_)", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('x', 'y')`}, []want{insert("1", `{"RowID":"x","_ROWID_":"y"}`)}},
		{"given", "CREATE TABLE t (id INTEGER PRIMARY KEY, code)", sqlite.Capture{Key: []string{"CODE"}},
			[]string{`INSERT INTO t VALUES (1, 'c')`}, []want{insert("c", `{"id":1,"code":"c"}`)}},
		{"text in an untyped key stays text", "CREATE TABLE t (k PRIMARY KEY) WITHOUT ROWID", sqlite.Capture{},
			[]string{`INSERT INTO t VALUES ('007')`}, []want{insert("007", `{"k":"007"}`)}},
	})
}

func TestCaptureValues(t *testing.T) {
	t.Parallel()
	const schema = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
	for _, tt := range []struct{ name, literal, want string }{
		{"null", "NULL", `null`},
		{"largest integer", "9223372036854775807", `9223372036854775807`},
		{"smallest integer", "-9223372036854775808", `-9223372036854775808`},
		{"short real", "19.99", `19.99`},
		{"whole real", "100.0", `100.0`},
		{"17 digits", "0.1 + 0.2", `0.30000000000000004`},
		{"smallest real", "5e-324", `4.94065645841247e-324`},
		{"largest real", "1.7976931348623157e308", `1.7976931348623157e+308`},
		{"infinity", "9e999", `"Infinity"`},
		{"minus infinity", "-9e999", `"-Infinity"`},
		{"blob", "x'00ffAB'", `"\\x00ffab"`},
		{"empty blob", "x''", `"\\x"`},
		{"empty text", "''", `""`},
		{"text like JSON", `'{"a":[1]}'`, `"{\"a\":[1]}"`},
		{"text like a number", `'12'`, `"12"`},
		{"JSON function", `json('[1]')`, `"[1]"`},
		{"NUL", `'a' || char(0) || 'b'`, `"a\u0000b"`},
		{"controls", `char(10, 13, 9, 1, 127)`, "\"\\n\\r\\t\\u0001\x7f\""},
		{"quotes", `'"''\'`, `"\"'\\"`},
		{"emoji", `'😀'`, `"😀"`},
		{"invalid UTF-8", `CAST(x'61ff62' AS TEXT)`, `"a` + "\uFFFD" + `b"`},
		{"huge blob", "zeroblob(16777217)", `{"omitted_bytes":16777217}`},
		{"huge text", "printf('é%*s', 16777216, '')", `{"omitted_bytes":16777218}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := captured(t, sqlite.Capture{Table: "t"}, schema)
			d.must(t, "INSERT INTO t VALUES (1, "+tt.literal+")")
			d.must(t, "UPDATE t SET v = NULL")
			image := `{"id":1,"v":` + tt.want + `}`
			got := d.all(t)
			if string(got[0].Event.Data) != image || string(got[1].Event.Before) != image {
				t.Errorf("inserted %.200s, before-image %.200s; want %s", got[0].Event.Data, got[1].Event.Before, image)
			}
			if _, err := got[0].Event.Fields(); err != nil {
				t.Errorf("fields: %v", err)
			}
		})
	}
}

func TestCaptureColumns(t *testing.T) {
	t.Parallel()
	runCaptureCases(t, []captureCase{
		{"hostile names", "CREATE TABLE \"we\"\"ird '$v*/ 😀\" (\"new\" INTEGER PRIMARY KEY, \"old\", n, \"New.x\", \"a\"\"b\", \"it's\", \"$v\", \"$real\", \"*/\", \"select\", \"😀\", \"back\\slash\", \" \", \"line\nbreak\")",
			sqlite.Capture{Table: `WE"ird '$v*/ 😀`},
			[]string{`INSERT INTO "we""ird '$v*/ 😀" VALUES (1,2,3,4,5,6,7,8,9,10,11,12,13,14)`, `UPDATE "we""ird '$v*/ 😀" SET "it's" = 0.5`},
			[]want{
				insert("1", `{"new":1,"old":2,"n":3,"New.x":4,"a\"b":5,"it's":6,"$v":7,"$real":8,"*/":9,"select":10,"😀":11,"back\\slash":12," ":13,"line\nbreak":14}`),
				update("1", `{"new":1,"old":2,"n":3,"New.x":4,"a\"b":5,"it's":0.5,"$v":7,"$real":8,"*/":9,"select":10,"😀":11,"back\\slash":12," ":13,"line\nbreak":14}`,
					`{"it's":{"old":6,"new":0.5}}`),
			}},
		{"generated", "CREATE TABLE t (id INTEGER PRIMARY KEY, a INT, v AS (a * 2), s AS (a * 3) STORED)", sqlite.Capture{},
			[]string{"INSERT INTO t (a) VALUES (2)", "UPDATE t SET a = 3"}, []want{
				insert("1", `{"id":1,"a":2,"v":4,"s":6}`),
				update("1", `{"id":1,"a":3,"v":6,"s":9}`, `{"a":{"old":2,"new":3},"s":{"old":6,"new":9},"v":{"old":4,"new":6}}`),
			}},
		{"real affinity", "CREATE TABLE t (id INTEGER PRIMARY KEY, r REAL, x TEXT)", sqlite.Capture{},
			[]string{"INSERT INTO t VALUES (1, 1, 2)"}, []want{insert("1", `{"id":1,"r":1.0,"x":"2"}`)}},
		{"some columns and the key", "CREATE TABLE t (a, id INTEGER PRIMARY KEY, secret, b)", sqlite.Capture{Columns: []string{"B", "a"}},
			[]string{"INSERT INTO t VALUES (1, 2, 3, 4)", "UPDATE t SET secret = 5"}, []want{
				insert("2", `{"a":1,"id":2,"b":4}`), update("2", `{"a":1,"id":2,"b":4}`, `{}`),
			}},
	})
}

// SQLite limits function arguments (to 127 in older versions), the terms of a
// compound SELECT (500) and the depth of an expression (1000).
func TestCaptureManyColumns(t *testing.T) {
	t.Parallel()
	columns := []string{"c0 INTEGER PRIMARY KEY"}
	values := []string{"0"}
	data := []string{`"c0":0`}
	for i := 1; i < 1100; i++ {
		n := strconv.Itoa(i)
		columns, values, data = append(columns, "c"+n), append(values, n), append(data, `"c`+n+`":`+n)
	}
	d := captured(t, sqlite.Capture{Table: "wide"}, "CREATE TABLE wide ("+strings.Join(columns, ",")+")")
	d.must(t, "INSERT INTO wide VALUES ("+strings.Join(values, ",")+")")
	d.must(t, "UPDATE wide SET c1099 = 'x'")
	before := "{" + strings.Join(data, ",") + "}"
	after := strings.Replace(before, `"c1099":1099`, `"c1099":"x"`, 1)
	d.check(t, insert("0", before), update("0", after, `{"c1099":{"old":1099,"new":"x"}}`))
}

func TestCaptureTenant(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t", Tenant: "ORG"}, "CREATE TABLE t (id INTEGER PRIMARY KEY, org)")
	d.must(t, "INSERT INTO t VALUES (1, 42), (2, 'acme'), (3, NULL)")
	d.must(t, "DELETE FROM t WHERE id = 2")
	var got []string
	for _, m := range d.all(t) {
		got = append(got, m.Event.TenantID)
	}
	if diff := cmp.Diff([]string{"42", "acme", "", "acme"}, got); diff != "" {
		t.Errorf("tenants (-want +got):\n%s", diff)
	}
}

// A key that is NULL identifies nothing: the change is kept for a person.
func TestCaptureNullKey(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (k TEXT PRIMARY KEY, v)")
	d.must(t, "INSERT INTO t VALUES (NULL, 1), ('a', 2)")
	got := d.all(t)
	if got[0].Malformed == nil || got[0].Malformed.Reason != "object_id is NULL on INSERT" {
		t.Errorf("a NULL key arrived as %+v", got[0])
	}
	if got[1].Event == nil {
		t.Errorf("the row beside it arrived as %+v", got[1].Malformed)
	}
}

// What an application sees of its own statement is the same with and without
// the triggers.
func TestCaptureIsInvisible(t *testing.T) {
	t.Parallel()
	d := captured(t, sqlite.Capture{Table: "t"}, "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
	d.must(t, "INSERT INTO t VALUES (100, 'a')")
	for range 5 {
		d.must(t, "UPDATE t SET v = 'b'")
	}
	res, err := d.ExecContext(t.Context(), "INSERT INTO t (v) VALUES ('c'), ('d')")
	if err != nil {
		t.Fatal(err)
	}
	id, err := res.LastInsertId()
	n, err2 := res.RowsAffected()
	if err := errors.Join(err, err2); err != nil || id != 102 || n != 2 {
		t.Errorf("last insert id %d, changes %d, %v; want 102 and 2", id, n, err)
	}
	var last, changed, returned int
	row := d.QueryRowContext(t.Context(), "SELECT last_insert_rowid(), changes()")
	if err := row.Scan(&last, &changed); err != nil || last != 102 || changed != 2 {
		t.Errorf("last_insert_rowid() %d, changes() %d, %v; want 102 and 2", last, changed, err)
	}
	row = d.QueryRowContext(t.Context(), "INSERT INTO t (v) VALUES ('e') RETURNING id")
	if err := row.Scan(&returned); err != nil || returned != 103 {
		t.Errorf("RETURNING gave %d, %v; want 103", returned, err)
	}
}
