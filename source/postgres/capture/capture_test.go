package capture_test

import (
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
)

// plain is a table, and withBefore a capture of it with before-images.
const plain = "CREATE TABLE t (id int PRIMARY KEY, v text)"

type captureCase struct {
	schema  string
	capture capture.Capture
	sql     string
	want    []string
}

func of(table string) capture.Capture { return capture.Capture{Table: table} }

func withBefore(table string) capture.Capture {
	return capture.Capture{Table: table, BeforeImage: true}
}

func runCases(t *testing.T, tests map[string]captureCase) {
	t.Helper()
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := captured(t, tt.schema, tt.capture)
			testenv.Exec(t, conn, tt.sql)
			wantLog(t, conn, tt.want...)
		})
	}
}

func TestStatementsAreRecorded(t *testing.T) {
	t.Parallel()
	const three = "INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c'); TRUNCATE core.tb_entity_change_log;"
	runCases(t, map[string]captureCase{
		"insert update delete": {
			plain, of("t"),
			"INSERT INTO t VALUES (1, 'a'), (2, NULL); UPDATE t SET v = 'b' WHERE id = 1; DELETE FROM t WHERE id = 2",
			[]string{`INSERT E 1 {"v": "a", "id": 1} -`, `INSERT E 2 {"v": null, "id": 2} -`, `UPDATE E 1 {"v": "b", "id": 1} -`, `DELETE E 2 - {"v": null, "id": 2}`},
		},
		"before-image": {
			plain, withBefore("t"), three + "UPDATE t SET v = 'b' WHERE id = 1",
			[]string{`UPDATE E 1 {"v": "b", "id": 1} {"v": "a", "id": 1}`},
		},
		"no-op update": {
			plain, withBefore("t"), three + "UPDATE t SET v = v WHERE id = 1",
			[]string{`UPDATE E 1 {"v": "a", "id": 1} {"v": "a", "id": 1}`},
		},
		"no rows": {plain, of("t"), three + "UPDATE t SET v = 'b' WHERE id = 9; DELETE FROM t WHERE id = 9; INSERT INTO t SELECT 9 WHERE false", []string{""}},
		"rolled back": {
			plain, of("t"), "BEGIN; SAVEPOINT s; INSERT INTO t VALUES (1); ROLLBACK TO s; INSERT INTO t VALUES (2); COMMIT",
			[]string{`INSERT E 2 {"v": null, "id": 2} -`},
		},
		"changed key": {
			plain, of("t"), three + "UPDATE t SET id = 7 WHERE id = 1",
			[]string{`DELETE E 1 - {"v": "a", "id": 1}`, `INSERT E 7 {"v": "a", "id": 7} -`},
		},
		"keys that move over each other": {
			"CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text)", withBefore("t"), three + "UPDATE t SET id = id + 1",
			[]string{
				`DELETE E 1 - {"v": "a", "id": 1}`, `UPDATE E 2 {"v": "a", "id": 2} {"v": "b", "id": 2}`,
				`UPDATE E 3 {"v": "b", "id": 3} {"v": "c", "id": 3}`, `INSERT E 4 {"v": "c", "id": 4} -`,
			},
		},
		"truncate": {plain, of("t"), three + "TRUNCATE t", []string{`CUSTOM E - {"table": "public.t", "operation": "TRUNCATE"} -`}},
		"upsert": {
			plain, withBefore("t"), three + "INSERT INTO t VALUES (3, 'C'), (4, 'd') ON CONFLICT (id) DO UPDATE SET v = excluded.v; INSERT INTO t VALUES (4) ON CONFLICT DO NOTHING",
			[]string{`UPDATE E 3 {"v": "C", "id": 3} {"v": "c", "id": 3}`, `INSERT E 4 {"v": "d", "id": 4} -`},
		},
		"merge": {
			plain, withBefore("t"), three + `MERGE INTO t USING (VALUES (1, 'A'), (2, NULL), (5, 'e')) AS n (id, v) ON n.id = t.id
				WHEN MATCHED AND n.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = n.v WHEN NOT MATCHED THEN INSERT VALUES (n.id, n.v)`,
			[]string{`DELETE E 2 - {"v": "b", "id": 2}`, `UPDATE E 1 {"v": "A", "id": 1} {"v": "a", "id": 1}`, `INSERT E 5 {"v": "e", "id": 5} -`},
		},
	})
}

func TestCircumstances(t *testing.T) {
	t.Parallel()
	runCases(t, map[string]captureCase{
		"cascade": {
			plain + "; CREATE TABLE c (id int PRIMARY KEY, t int REFERENCES t ON DELETE CASCADE)", of("c"),
			"INSERT INTO t VALUES (1); INSERT INTO c VALUES (5, 1); DELETE FROM t",
			[]string{`INSERT E 5 {"t": 1, "id": 5} -`, `DELETE E 5 - {"t": 1, "id": 5}`},
		},
		"inside a function": {
			plain, of("t"), "DO $$ BEGIN BEGIN INSERT INTO t VALUES (1); RAISE 'no'; EXCEPTION WHEN OTHERS THEN INSERT INTO t VALUES (2); END; END $$",
			[]string{`INSERT E 2 {"v": null, "id": 2} -`},
		},
		"copy": {plain, of("t"), "CREATE TABLE s AS VALUES (1, 'x'); INSERT INTO t TABLE s", []string{`INSERT E 1 {"v": "x", "id": 1} -`}},
		"partitions": {
			"CREATE TABLE t (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE a (v text, id int NOT NULL); ALTER TABLE t ATTACH PARTITION a FOR VALUES FROM (0) TO (10); CREATE TABLE b PARTITION OF t FOR VALUES FROM (10) TO (20)",
			withBefore("t"), "INSERT INTO t VALUES (1, 'a'), (11, 'b'); UPDATE t SET id = 12 WHERE id = 1; UPDATE a SET v = 'x'; INSERT INTO a (id) VALUES (3); DELETE FROM b WHERE id = 11; TRUNCATE b",
			[]string{
				`INSERT E 1 {"v": "a", "id": 1} -`, `INSERT E 11 {"v": "b", "id": 11} -`, `DELETE E 1 - {"v": "a", "id": 1}`, `INSERT E 12 {"v": "a", "id": 12} -`,
				`INSERT E 3 {"v": null, "id": 3} -`, `DELETE E 11 - {"v": "b", "id": 11}`, `CUSTOM E - {"table": "public.b", "operation": "TRUNCATE"} -`,
			},
		},
		"inheritance": {
			plain + "; CREATE TABLE c (extra int) INHERITS (t)", of("t"), "INSERT INTO c VALUES (1, 'a', 5); UPDATE t SET v = 'b'; DELETE FROM t",
			[]string{`UPDATE E 1 {"v": "b", "id": 1} -`, `DELETE E 1 - {"v": "b", "id": 1}`},
		},
		"row-level security": {
			plain + "; ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id < 5)", of("t"),
			"SET ROLE pg_read_all_data; RESET ROLE; INSERT INTO t VALUES (1)", []string{`INSERT E 1 {"v": null, "id": 1} -`},
		},
		"mediated": {
			plain, of("t"), "SET LOCAL fraiseql.cdc_mediated = 'on'; INSERT INTO t VALUES (1); TRUNCATE t; SET LOCAL fraiseql.cdc_mediated = 'off'; INSERT INTO t VALUES (2)",
			[]string{`INSERT E 2 {"v": null, "id": 2} -`},
		},
		"replica": {
			plain, of("t"), "SET LOCAL session_replication_role = 'replica'; INSERT INTO t VALUES (1); SET LOCAL session_replication_role = 'origin'; INSERT INTO t VALUES (2)",
			[]string{`INSERT E 2 {"v": null, "id": 2} -`},
		},
		"a plan for one row serves many": {
			plain, withBefore("t"), "INSERT INTO t VALUES (0); UPDATE t SET v = 'a'; INSERT INTO t SELECT generate_series(1, 20000); UPDATE t SET v = 'b'; " +
				"CREATE TEMP TABLE l AS SELECT * FROM core.tb_entity_change_log; TRUNCATE core.tb_entity_change_log; " +
				"INSERT INTO core.tb_entity_change_log (object_type, modification_type, entity_key) SELECT count(*)::text, modification_type, (count(object_data_before) || ' ' || bool_and(entity_key = object_data ->> 'id')) FROM l GROUP BY 2 ORDER BY 2",
			[]string{"INSERT 20001 0 true - -", "UPDATE 20002 20002 true - -"},
		},
	})
}

func TestKeysAndColumns(t *testing.T) {
	t.Parallel()
	const id = "0190d1f0-0000-7000-8000-00000000000a"
	runCases(t, map[string]captureCase{
		"names that collide": {
			`CREATE TABLE t (s int PRIMARY KEY, n int, o int, e int, x int, y int, new_table int, old_table int, fraiseql_new int, fraiseql_old int, v_key int, v_rows int, key int, image int, place int, tenant int, "NEW" int, tg_op int)`,
			withBefore("t"), "INSERT INTO t (s, n, fraiseql_new, v_key, key, tg_op) VALUES (1, 2, 3, 4, 5, 6); UPDATE t SET n = 7; DELETE FROM t; INSERT INTO core.tb_entity_change_log (object_type, modification_type, entity_key) " +
				"SELECT 'x', 'NOOP', concat_ws(' ', count(*), min(entity_key), max(entity_key), min(object_data ->> 'n'), max(object_data ->> 'n'), min(object_data ->> 'v_key'), (SELECT count(*) FROM jsonb_object_keys(max(object_data::text)::jsonb)), count(extra_metadata ->> 'capture_error')) FROM core.tb_entity_change_log; DELETE FROM core.tb_entity_change_log WHERE modification_type <> 'NOOP'",
			[]string{"NOOP x 3 1 1 2 7 4 18 0 - -"},
		},
		"names that are hostile": {
			`CREATE SCHEMA "Sch""ema"; CREATE TABLE "Sch""ema"."T a'b.le $body$" ("Id ""q""" int PRIMARY KEY, "a'b\c" text, "/* */" text, "$1 %I %s" text, "naïve ☃" text)`,
			capture.Capture{Table: `"Sch""ema"."T a'b.le $body$"`, Entity: `E'\"/*x`, BeforeImage: true, Columns: []string{"a'b\\c", "/* */", "$1 %I %s", "naïve ☃"}},
			`INSERT INTO "Sch""ema"."T a'b.le $body$" VALUES (1, 'a', 'b', 'c', 'd'); TRUNCATE "Sch""ema"."T a'b.le $body$"`,
			[]string{
				`INSERT E'\"/*x 1 {"/* */": "b", "a'b\\c": "a", "Id \"q\"": 1, "$1 %I %s": "c", "naïve ☃": "d"} -`,
				`CUSTOM E'\"/*x - {"table": "Sch\"ema.T a'b.le $body$", "operation": "TRUNCATE"} -`,
			},
		},
		"uuid key": {
			"CREATE TABLE t (id uuid PRIMARY KEY)", of("t"), "INSERT INTO t VALUES ('" + id + "'); INSERT INTO core.tb_entity_change_log (object_type, modification_type) SELECT 'in', object_id::text FROM core.tb_entity_change_log",
			[]string{"INSERT E " + id + ` {"id": "` + id + `"} -`, id + " in - - -"},
		},
		"text keys": {
			"CREATE TABLE t (id text PRIMARY KEY)", of("t"),
			"INSERT INTO t VALUES ('" + id + "'), ('0190D1F0-0000-7000-8000-00000000000A'), (''), ('é \"x'); UPDATE core.tb_entity_change_log SET object_data = NULL, object_type = coalesce('uuid ' || object_id, 'text')",
			[]string{"INSERT uuid " + id + " " + id + " - -", "INSERT text 0190D1F0-0000-7000-8000-00000000000A - -", "INSERT text  - -", `INSERT text é "x - -`},
		},
		"composite key": {
			"CREATE TABLE t (id int, region text, part date, PRIMARY KEY (region, id, part))", withBefore("t"),
			"INSERT INTO t VALUES (7, 'E\"U', '2026-01-02'); UPDATE t SET id = 8; UPDATE core.tb_entity_change_log SET object_data = NULL, object_data_before = NULL",
			[]string{`INSERT E ["E\"U",7,"2026-01-02"] - -`, `DELETE E ["E\"U",7,"2026-01-02"] - -`, `INSERT E ["E\"U",8,"2026-01-02"] - -`},
		},
		"key of any type, whatever the session": {
			"CREATE TABLE t (id timestamptz, f float8, b bytea, n numeric, PRIMARY KEY (id, f, b, n))", of("t"),
			"SET LOCAL TimeZone = 'Asia/Tokyo'; SET LOCAL DateStyle = 'German'; SET LOCAL bytea_output = 'escape'; SET LOCAL extra_float_digits = -10; INSERT INTO t VALUES ('2026-01-02 03:04:05+00', 0.1234567890123, 'a', 1.50); UPDATE core.tb_entity_change_log SET object_data = jsonb_build_object('zone', current_setting('TimeZone'))",
			[]string{`INSERT E ["2026-01-02T03:04:05+00:00",0.1234567890123,"\\x61",1.50] {"zone": "Asia/Tokyo"} -`},
		},
		"no primary key": {
			"CREATE TABLE t (a int, b text)", capture.Capture{Table: "t", Key: []string{"A"}, BeforeImage: true},
			"INSERT INTO t VALUES (1, 'x'), (1, 'y'), (NULL, 'z'); UPDATE t SET b = b || '!'; DELETE FROM t WHERE b = 'y!'",
			[]string{
				`INSERT E 1 {"a": 1, "b": "x"} -`, `INSERT E 1 {"a": 1, "b": "y"} -`, `INSERT E - {"a": null, "b": "z"} -`,
				`UPDATE E 1 {"a": 1, "b": "x!"} {"a": 1, "b": "x"}`, `UPDATE E 1 {"a": 1, "b": "y!"} {"a": 1, "b": "y"}`, `UPDATE E - {"a": null, "b": "z!"} {"a": null, "b": "z"}`,
				`DELETE E 1 - {"a": 1, "b": "y!"}`,
			},
		},
		"unique index with NULL": {
			"CREATE TABLE t (a int UNIQUE, b text)", capture.Capture{Table: "t", Key: []string{"a"}},
			"INSERT INTO t VALUES (NULL, 'x'); UPDATE t SET b = 'y'",
			[]string{`INSERT E - {"a": null, "b": "x"} -`, `UPDATE E - {"a": null, "b": "y"} -`},
		},
		"key that is unique in the end": {
			"CREATE TABLE t (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED, v text)", withBefore("t"),
			"BEGIN; INSERT INTO t VALUES (1, 'a'), (1, 'b'); UPDATE t SET v = v || '!'; DELETE FROM t WHERE v = 'b!'; COMMIT",
			[]string{
				`INSERT E 1 {"v": "a", "id": 1} -`, `INSERT E 1 {"v": "b", "id": 1} -`, `UPDATE E 1 {"v": "a!", "id": 1} {"v": "a", "id": 1}`,
				`UPDATE E 1 {"v": "b!", "id": 1} {"v": "b", "id": 1}`, `DELETE E 1 - {"v": "b!", "id": 1}`,
			},
		},
		"limited columns": {
			"CREATE TABLE t (id int PRIMARY KEY, v text, secret text)", capture.Capture{Table: "t", Columns: []string{"v"}, BeforeImage: true},
			"INSERT INTO t VALUES (1, 'a', 'x'); UPDATE t SET v = 'b'; DELETE FROM t",
			[]string{`INSERT E 1 {"v": "a", "id": 1} -`, `UPDATE E 1 {"v": "b", "id": 1} {"v": "a", "id": 1}`, `DELETE E 1 - {"v": "b", "id": 1}`},
		},
		"generated and dropped columns": {
			"CREATE TABLE t (gone int, id int PRIMARY KEY, g int GENERATED ALWAYS AS (id * 2) STORED, x int); ALTER TABLE t DROP gone", of("t"),
			"INSERT INTO t VALUES (4); ALTER TABLE t DROP x, ADD y int DEFAULT 5; UPDATE t SET id = 5",
			[]string{`INSERT E 4 {"g": 8, "x": null, "id": 4} -`, `DELETE E 4 - {"g": 8, "y": 5, "id": 4}`, `INSERT E 5 {"g": 10, "y": 5, "id": 5} -`},
		},
	})
}

func TestValuesOfEveryType(t *testing.T) {
	t.Parallel()
	runCases(t, map[string]captureCase{
		"all at once": {
			`CREATE TYPE mood AS ENUM ('sad'); CREATE DOMAIN positive AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text);
			CREATE TABLE t (id int PRIMARY KEY, j json, jb jsonb, b bytea, n numeric, n2 numeric, f float8, d date, ts timestamp, tz timestamptz,
				arr int[], m mood, p positive, c pair, r int4range, x xml, i interval, bit bit(3), ip inet, ch char(3), ms money, oid oid, pt point, tsv tsvector, nul text)`,
			of("t"), `INSERT INTO t VALUES (1, '{"a":1,"a":2}', '[1e2]', '\x00ff', 'NaN', 'Infinity', '-Infinity', 'infinity', '-infinity', 'infinity',
				'{1,NULL}', 'sad', 5, '(1,"x y")', '[1,5)', '<a/>', '1 day 2 hours', B'101', '10.0.0.1', 'x', 1, 26, '(1,2)', 'a b')`,
			[]string{`INSERT E 1 {"b": "\\x00ff", "c": {"a": 1, "b": "x y"}, "d": "infinity", "f": "-Infinity", "i": "1 day 02:00:00", "j": {"a": 2}, "m": "sad", "n": "NaN", "p": 5, "r": "[1,5)", "x": "<a/>", ` +
				`"ch": "x  ", "id": 1, "ip": "10.0.0.1", "jb": [100], "ms": "$1.00", "n2": "Infinity", "pt": "(1,2)", "ts": "-infinity", "tz": "infinity", "arr": [1, null], "bit": "101", "nul": null, "oid": "26", "tsv": "'a' 'b'"} -`},
		},
		"json that jsonb cannot hold": {
			"CREATE TABLE t (id int PRIMARY KEY, j json, v text)", withBefore("t"),
			`INSERT INTO t VALUES (1, '{"a":"\u0000"}', 'x'), (2, '{"b":1}', 'y'); UPDATE t SET j = '1e999999'; DELETE FROM t WHERE id = 1`,
			[]string{
				`INSERT E 1 {"j": "{\"a\":\"\\u0000\"}", "v": "x", "id": 1} - !unsupported Unicode escape sequence`,
				`INSERT E 2 {"j": {"b": 1}, "v": "y", "id": 2} - !unsupported Unicode escape sequence`,
				`UPDATE E 1 {"j": "1e999999", "v": "x", "id": 1} {"j": "{\"a\":\"\\u0000\"}", "v": "x", "id": 1} !value overflows numeric format`,
				`UPDATE E 2 {"j": "1e999999", "v": "y", "id": 2} {"j": {"b": 1}, "v": "y", "id": 2} !value overflows numeric format`,
				`DELETE E 1 - {"j": "1e999999", "v": "x", "id": 1} !value overflows numeric format`,
			},
		},
		"the hundredth row of many cannot be held": {
			"CREATE TABLE t (id int PRIMARY KEY, j json)", of("t"),
			`INSERT INTO t SELECT i, CASE i WHEN 150 THEN '{"a":"\u0000"}' ELSE '{}' END::json FROM generate_series(1, 300) i;
			DELETE FROM core.tb_entity_change_log WHERE entity_key NOT IN ('1', '150', '300')`,
			[]string{
				`INSERT E 1 {"j": {}, "id": 1} - !unsupported Unicode escape sequence`,
				`INSERT E 150 {"j": "{\"a\":\"\\u0000\"}", "id": 150} - !unsupported Unicode escape sequence`,
				`INSERT E 300 {"j": {}, "id": 300} - !unsupported Unicode escape sequence`,
			},
		},
		"a cast of a type that fails": {
			`CREATE TYPE odd AS ENUM ('a'); CREATE FUNCTION odd_json(odd) RETURNS json LANGUAGE plpgsql AS 'BEGIN RAISE ''cannot''; END'; CREATE CAST (odd AS json) WITH FUNCTION odd_json(odd);
			CREATE TABLE t (id int PRIMARY KEY, o odd)`, of("t"), "INSERT INTO t VALUES (1, 'a')",
			[]string{`INSERT E 1 {"o": "a", "id": 1} - !cannot`},
		},
	})
}
