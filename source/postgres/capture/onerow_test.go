package capture_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
)

// counted is a table with a type whose conversion to JSON counts how often it runs.
const counted = `CREATE SEQUENCE calls; CREATE TYPE odd AS ENUM ('a', 'b');
	CREATE FUNCTION odd_json(odd) RETURNS json LANGUAGE plpgsql AS 'BEGIN PERFORM nextval(''public.calls''); RETURN ''1''; END';
	CREATE CAST (odd AS json) WITH FUNCTION odd_json(odd); CREATE TABLE t (id int PRIMARY KEY, o odd)`

// A statement of one row converts it once: what is tried is what is written.
func TestARowIsComputedOnce(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		capture capture.Capture
		want    []int
	}{
		"without before-images": {of("t"), []int{1, 1, 0, 1}},
		"with before-images":    {withBefore("t"), []int{1, 2, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := captured(t, counted, tt.capture)
			calls := func() int {
				return testenv.Value[int](t, conn, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM calls")
			}
			var got []int
			for _, s := range []string{"INSERT INTO t VALUES (1, 'a')", "UPDATE t SET o = 'b'", "UPDATE t SET o = 'a' WHERE id = 9", "DELETE FROM t"} {
				before := calls()
				testenv.Exec(t, conn, s)
				got = append(got, calls()-before)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("conversions of each statement (-want +got):\n%s", d)
			}
		})
	}
}

// A row that left its partition and was refused by another is gone.
func TestRowLostOnItsWay(t *testing.T) {
	t.Parallel()
	const schema = `CREATE TABLE t (id int, v text) PARTITION BY RANGE (id); CREATE TABLE a PARTITION OF t FOR VALUES FROM (0) TO (10); CREATE TABLE b PARTITION OF t FOR VALUES FROM (10) TO (20);
		CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; CREATE TRIGGER refuse BEFORE INSERT ON b FOR EACH ROW EXECUTE FUNCTION refuse();
		INSERT INTO t VALUES (1), (2)`
	runCases(t, map[string]captureCase{
		"alone": {
			schema, capture.Capture{Table: "t", Key: []string{"id"}}, "UPDATE t SET id = 11 WHERE id = 1",
			[]string{`DELETE E 1 - {"v": null, "id": 1}`},
		},
		"beside another": {
			schema, capture.Capture{Table: "t", Key: []string{"id"}}, "UPDATE t SET id = CASE id WHEN 2 THEN 11 ELSE id END",
			[]string{`DELETE E 2 - {"v": null, "id": 2}`, `UPDATE E 1 {"v": null, "id": 1} -`},
		},
		"without a key": {
			schema + "; CREATE TABLE c PARTITION OF t DEFAULT; INSERT INTO t VALUES (NULL)", capture.Capture{Table: "t", Key: []string{"v"}}, "UPDATE t SET id = 11 WHERE id IS NULL",
			[]string{`DELETE E - - {"v": null, "id": null}`},
		},
	})
}

// What is altered after the function was planned does not fail the writer.
func TestAlteredAfterFirstUse(t *testing.T) {
	t.Parallel()
	const lacking = " !column l.tenant_key does not exist"
	runCases(t, map[string]captureCase{
		"column that jsonb cannot hold": {
			plain, of("t"), `INSERT INTO t VALUES (1); TRUNCATE core.tb_entity_change_log; ALTER TABLE t ADD j json; UPDATE t SET j = '"\u0000"'`,
			[]string{`UPDATE E 1 {"j": "\"\\u0000\"", "v": null, "id": 1} - !unsupported Unicode escape sequence`},
		},
		"column of the log renamed": {
			plain, of("t"), `INSERT INTO t VALUES (1); TRUNCATE core.tb_entity_change_log; ALTER TABLE core.tb_entity_change_log RENAME tenant_key TO x; UPDATE t SET v = 'a'; DELETE FROM t`,
			[]string{`UPDATE E 1 {"v": "a", "id": 1} -` + lacking, `DELETE E 1 - {"v": "a", "id": 1}` + lacking},
		},
		"log made anew without our columns": {
			plain, of("t"), `INSERT INTO t VALUES (1); CREATE TABLE core.new (LIKE core.tb_entity_change_log INCLUDING ALL); ALTER TABLE core.new DROP tenant_key;
				DROP TABLE core.tb_entity_change_log; ALTER TABLE core.new RENAME TO tb_entity_change_log; CREATE SEQUENCE core.again;
				ALTER TABLE core.tb_entity_change_log ALTER pk_entity_change_log DROP IDENTITY IF EXISTS; ALTER TABLE core.tb_entity_change_log ALTER pk_entity_change_log SET DEFAULT nextval('core.again'); INSERT INTO t VALUES (2)`,
			[]string{`INSERT E 2 {"v": null, "id": 2} -` + lacking},
		},
	})
}

// A writer that waits for somebody who alters or drops the log goes on when that
// is done.
func TestWriterBehindAnAlteredLog(t *testing.T) {
	t.Parallel()
	for name, alter := range map[string]string{
		"altered": "ALTER TABLE core.tb_entity_change_log DROP tenant_key",
		"dropped": "DROP TABLE core.tb_entity_change_log",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, url := captured(t, plain, of("t"))
			testenv.Exec(t, conn, "INSERT INTO t VALUES (1)")
			other := testenv.Connect(t, url)
			testenv.Exec(t, other, "BEGIN")
			testenv.Exec(t, other, alter)
			done := make(chan error, 1)
			go func() {
				_, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (2)")
				done <- err
			}()
			testenv.Eventually(t, other, "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))")
			testenv.Exec(t, other, "COMMIT")
			if err := <-done; err != nil {
				t.Errorf("the writer: %v", err)
			}
			if n := testenv.Value[int](t, other, "SELECT count(*) FROM t"); n != 2 {
				t.Errorf("%d rows, want 2", n)
			}
		})
	}
}

// A row has the same key and the same image whatever the session is set to, in a
// column that was added later too.
func TestSessionsGiveTheSameImage(t *testing.T) {
	t.Parallel()
	conn, url := captured(t, "CREATE TABLE t (id timestamptz PRIMARY KEY, b bytea, f float8)", of("t"))
	testenv.Exec(t, conn, "ALTER TABLE t ADD i interval, ADD r daterange, ADD z timestamptz")
	other := testenv.Connect(t, url)
	testenv.Exec(t, other, "SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -10")
	const insert = `INSERT INTO t VALUES ('2026-01-02 03:04:05+00', '\x00ff', 0.1234567890123, '1 day 2 hours', '[2026-01-02,2026-02-03)', '2026-01-02 03:04:05+00'); DELETE FROM t`
	const images = "SELECT string_agg(concat_ws(' ', entity_key, object_data, object_data_before), E'\n' ORDER BY pk_entity_change_log) FROM core.tb_entity_change_log"
	testenv.Exec(t, conn, insert)
	want := testenv.Value[string](t, conn, images)
	testenv.Exec(t, conn, "TRUNCATE core.tb_entity_change_log")
	testenv.Exec(t, other, insert)
	if d := cmp.Diff(want, testenv.Value[string](t, conn, images)); d != "" {
		t.Errorf("(-one session +another):\n%s", d)
	}
}
