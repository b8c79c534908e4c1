package capture_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// driftOf lists the captures as "table: drift; drift".
func driftOf(t *testing.T, url string) (lines []string) {
	t.Helper()
	list, err := capture.List(t.Context(), url, changelog.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list {
		lines = append(lines, s.Table+": "+strings.Join(s.Drift, "; "))
	}
	return lines
}

type driftCase struct {
	capture     capture.Capture
	change, sql string
	want        []string
	// drift is what is reported, and mended what remains of it after the capture
	// was added again, "" where that is not tried.
	drift, mended string
}

// What changes after a capture never fails a writer, is recorded as well as it can
// be, is reported, and is mended by adding the capture again.
func TestDrift(t *testing.T) {
	t.Parallel()
	const full = "CREATE TABLE t (id int PRIMARY KEY, v text, w text, tenant text)"
	tests := map[string]driftCase{
		"nothing": {of("t"), "", "INSERT INTO t VALUES (1, 'a')", []string{`INSERT E 1 {"v": "a", "w": null, "id": 1, "tenant": null} -`}, "public.t: ", "public.t: "},
		"column renamed": {
			of("t"), "ALTER TABLE t RENAME v TO x", "INSERT INTO t VALUES (1, 'a')",
			[]string{`INSERT E 1 {"w": null, "x": "a", "id": 1, "tenant": null} -`}, "public.t: ", "public.t: ",
		},
		"key renamed": {
			capture.Capture{Table: "t", BeforeImage: true, Tenant: "tenant"}, "ALTER TABLE t RENAME id TO nr; ALTER TABLE t RENAME tenant TO org",
			"INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; UPDATE t SET nr = 2; DELETE FROM t; TRUNCATE t",
			[]string{
				`INSERT E 1 {"v": "a", "w": null, "nr": 1, "org": null} - !column s.id does not exist`,
				`UPDATE E 1 {"v": "b", "w": null, "nr": 1, "org": null} {"v": "a", "w": null, "nr": 1, "org": null} !column s.id does not exist`,
				`DELETE E 1 - {"v": "b", "w": null, "nr": 1, "org": null} !column s.id does not exist`,
				`INSERT E 2 {"v": "b", "w": null, "nr": 2, "org": null} - !column s.id does not exist`,
				`DELETE E 2 - {"v": "b", "w": null, "nr": 2, "org": null} !column s.id does not exist`,
				`CUSTOM E - {"table": "public.t", "operation": "TRUNCATE"} -`,
			},
			"public.t: column id was renamed to nr: events are recorded slowly; column tenant was renamed to org: events are recorded slowly", "",
		},
		"part of a key removed": {
			capture.Capture{Table: "t", Key: []string{"id", "w"}}, "ALTER TABLE t DROP w", "INSERT INTO t VALUES (1)",
			[]string{`INSERT E [1,null] {"v": null, "id": 1, "tenant": null} - !column s.w does not exist`},
			"public.t: column w was removed: events are recorded without it, and slowly", "",
		},
		"chosen column removed": {
			capture.Capture{Table: "t", Columns: []string{"v", "w"}}, "ALTER TABLE t DROP w", "INSERT INTO t VALUES (1, 'a')",
			[]string{`INSERT E 1 {"v": "a", "id": 1} - !column s.w does not exist`},
			"public.t: column w was removed: events are recorded without it, and slowly", "",
		},
		"table renamed and moved": {
			of("t"), "CREATE SCHEMA s; ALTER TABLE t RENAME TO u; ALTER TABLE u SET SCHEMA s", "INSERT INTO s.u VALUES (1); TRUNCATE s.u",
			[]string{`INSERT E 1 {"v": null, "w": null, "id": 1, "tenant": null} -`, `CUSTOM E - {"table": "s.u", "operation": "TRUNCATE"} -`},
			"s.u: the table was renamed from public.t, or was a part of it", "",
		},
		"type changed": {
			of("t"), "ALTER TABLE t ALTER id TYPE text", "INSERT INTO t VALUES ('0190d1f0-0000-7000-8000-00000000000b')",
			[]string{`INSERT E 0190d1f0-0000-7000-8000-00000000000b {"v": null, "w": null, "id": "0190d1f0-0000-7000-8000-00000000000b", "tenant": null} -`},
			"public.t: its function was made by another version, or for other types or indexes", "public.t: ",
		},
		"column added and removed": {
			of("t"), "ALTER TABLE t ADD x int DEFAULT 5, DROP v", "INSERT INTO t VALUES (1)", []string{`INSERT E 1 {"w": null, "x": 5, "id": 1, "tenant": null} -`},
			"public.t: ", "public.t: ",
		},
		"column added and type changed": {
			of("t"), "ALTER TABLE t ADD x int; ALTER TABLE t ALTER id TYPE bigint, ALTER v TYPE int USING 0; ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD UNIQUE (w)", "INSERT INTO t VALUES (1)",
			[]string{`INSERT E 1 {"v": null, "w": null, "x": null, "id": 1, "tenant": null} -`},
			"public.t: its function was made by another version, or for other types or indexes", "",
		},
		"made anew": {
			of("t"), "DROP TABLE t; " + full, "INSERT INTO t VALUES (1)", []string{""},
			"public.t: its triggers are gone, as after making the table anew: changes are not recorded", "public.t: ",
		},
		"dropped": {of("t"), "DROP TABLE t", "", []string{""}, "public.t: the table is gone", ""},
		"trigger dropped and disabled": {
			of("t"), "DROP TRIGGER fraiseql_capture_insert ON t; ALTER TABLE t DISABLE TRIGGER fraiseql_capture_update", "INSERT INTO t VALUES (1)", []string{""},
			"public.t: 1 of 4 triggers are missing; 1 of 4 triggers are disabled: changes are not recorded", "public.t: ",
		},
		"log without our columns": {
			of("t"), "ALTER TABLE core.tb_entity_change_log DROP tenant_key, DROP trace_id", "INSERT INTO t VALUES (1); UPDATE t SET v = 'b'; TRUNCATE t",
			[]string{
				`INSERT E 1 {"v": null, "w": null, "id": 1, "tenant": null} - !column l.tenant_key does not exist`,
				`UPDATE E 1 {"v": "b", "w": null, "id": 1, "tenant": null} - !column l.tenant_key does not exist`,
				`CUSTOM E - {"table": "public.t", "operation": "TRUNCATE"} - !column "tenant_key" of relation "tb_entity_change_log" does not exist`,
			},
			"public.t: ", "public.t: ",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.run(t, full)
		})
	}
}

func (c driftCase) run(t *testing.T, schema string) {
	t.Helper()
	conn, url := captured(t, schema, c.capture)
	testenv.Exec(t, conn, c.change)
	testenv.Exec(t, conn, c.sql)
	wantLog(t, conn, c.want...)
	if d := cmp.Diff([]string{c.drift}, driftOf(t, url)); d != "" {
		t.Errorf("drift (-want +got):\n%s", d)
	}
	if c.mended == "" {
		return
	}
	add(t, url, c.capture)
	if d := cmp.Diff([]string{c.mended}, driftOf(t, url)); d != "" {
		t.Errorf("drift after adding again (-want +got):\n%s", d)
	}
}

func TestPartitionsMadeLaterAreReported(t *testing.T) {
	t.Parallel()
	conn, url := captured(t, "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE a PARTITION OF t FOR VALUES FROM (0) TO (10)", of("t"))
	testenv.Exec(t, conn, "CREATE TABLE b PARTITION OF t FOR VALUES FROM (10) TO (20); INSERT INTO t VALUES (11); ALTER TABLE t DETACH PARTITION a; INSERT INTO a VALUES (1)")
	wantLog(t, conn, `INSERT E 11 {"id": 11} -`, `INSERT E 1 {"id": 1} -`)
	want := []string{"public.a: the table was renamed from public.t, or was a part of it", "public.t: 4 of 4 triggers of partition public.b are missing"}
	if d := cmp.Diff(want, driftOf(t, url)); d != "" {
		t.Errorf("drift (-want +got):\n%s", d)
	}
	add(t, url, of("t"))
	if err := capture.Remove(t.Context(), url, "a", changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{"public.t: "}, driftOf(t, url)); d != "" {
		t.Errorf("drift after adding again (-want +got):\n%s", d)
	}
	testenv.Exec(t, conn, "TRUNCATE core.tb_entity_change_log; INSERT INTO b VALUES (12); INSERT INTO a VALUES (2)")
	wantLog(t, conn, `INSERT E 12 {"id": 12} -`)
}

// Where there is no log to write to, the change goes through, and it is known that
// it was not recorded.
func TestWithoutALog(t *testing.T) {
	t.Parallel()
	const statements = "INSERT INTO t VALUES (1); UPDATE t SET v = 'b'; INSERT INTO t SELECT generate_series(2, 500); DELETE FROM t WHERE id = 1; TRUNCATE t"
	for name, gone := range map[string]string{
		"dropped": "DROP TABLE core.tb_entity_change_log",
		"schema":  "DROP SCHEMA core CASCADE",
		"renamed": "ALTER TABLE core.tb_entity_change_log RENAME TO other",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, url := captured(t, plain, of("t"))
			testenv.Exec(t, conn, gone)
			testenv.Exec(t, conn, statements)
			if n := testenv.Value[int](t, conn, "SELECT count(*) FROM t"); n != 0 {
				t.Errorf("%d rows after TRUNCATE", n)
			}
			drift := driftOf(t, url)
			if len(drift) != 1 || !strings.Contains(drift[0], "5 statements were not recorded") {
				t.Errorf("drift %s", drift)
			}
			testenv.Exec(t, conn, "DROP SCHEMA fraiseql_observer CASCADE")
			testenv.Exec(t, conn, "INSERT INTO t VALUES (1)")
		})
	}
	t.Run("owner without rights", func(t *testing.T) {
		t.Parallel()
		conn, url := captured(t, plain, of("t"))
		role := roleFor(t, conn)
		function := testenv.Value[string](t, conn, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'capture_public%'")
		testenv.Exec(t, conn, "GRANT CREATE, USAGE ON SCHEMA fraiseql_observer TO "+role+"; ALTER FUNCTION "+function+" OWNER TO "+role)
		testenv.Exec(t, conn, statements)
		testenv.Exec(t, conn, "GRANT USAGE ON SCHEMA core TO "+role+"; GRANT INSERT, SELECT ON fraiseql_observer.tb_capture_unrecorded TO "+role)
		testenv.Exec(t, conn, statements)
		if drift := driftOf(t, url); len(drift) != 1 || !strings.Contains(drift[0], "5 statements were not recorded") {
			t.Errorf("drift %s", drift)
		}
		testenv.Exec(t, conn, "ALTER FUNCTION "+function+" OWNER TO CURRENT_USER")
	})
}

// A log that refuses a row refuses the change with it: what is committed is
// recorded.
func TestALogThatRefusesARowRefusesTheChange(t *testing.T) {
	t.Parallel()
	conn, _ := captured(t, plain, of("t"))
	testenv.Exec(t, conn, "ALTER TABLE core.tb_entity_change_log ADD CHECK (object_data ->> 'v' <> 'no')")
	if _, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (1, 'no')"); err == nil {
		t.Error("a change was made that is not recorded")
	}
	testenv.Exec(t, conn, "INSERT INTO t VALUES (2, 'yes')")
	wantLog(t, conn, `INSERT E 2 {"v": "yes", "id": 2} -`)
}
