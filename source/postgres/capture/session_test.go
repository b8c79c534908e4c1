package capture_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/capture"
)

func TestSessionSettings(t *testing.T) {
	t.Parallel()
	const id, other = "0190D1F0-0000-7000-8000-00000000000A", "0190d1f0-0000-7000-8000-00000000000b"
	const shown = `SELECT string_agg(concat_ws(' ', coalesce(tenant_id::text, '-'), coalesce(tenant_key, '-'), coalesce(actor_type, '-'), coalesce(acting_for::text, '-'),
		coalesce(schema_version, '-'), coalesce(trace_id, '-'), coalesce(trace_context::text, '-'), extra_metadata::text), E'\n' ORDER BY pk_entity_change_log) FROM core.tb_entity_change_log`
	const md = `{"cdc_source": "fallback_trigger"}`
	tests := map[string]struct{ tenant, sql, want string }{
		"none": {"", "", "- - - - - - - " + md},
		"all": {
			"", "SET fraiseql.tenant_id = '" + id + "'; SET fraiseql.actor_type = 'ai_agent'; SET fraiseql.acting_for = '" + other + "'; SET fraiseql.schema_version = 'v2'; " +
				`SET fraiseql.trace_context = '{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}'`,
			strings.ToLower(id) + " - ai_agent " + other + ` v2 0af7651916cd43dd8448eb211c80319c {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"} ` + md,
		},
		"bad values": {
			"", "SET fraiseql.tenant_id = 'acme'; SET fraiseql.acting_for = 'bob'; SET fraiseql.trace_context = '{nope'; SET fraiseql.schema_version = ''",
			`- acme - - - - - {"acting_for": "bob", "cdc_source": "fallback_trigger"}`,
		},
		"trace context that is no object":           {"", "SET fraiseql.trace_context = '[1]'", "- - - - - - - " + md},
		"tenant of the row":                         {"v", "SET fraiseql.tenant_id = 'acme'; UPDATE t SET v = 'globex'", "- globex - - - - - " + md},
		"tenant of the row, a uuid":                 {"v", "UPDATE t SET v = '" + id + "'", strings.ToLower(id) + " - - - - - - " + md},
		"tenant of the session, as the row is NULL": {"v", "SET fraiseql.tenant_id = 'acme'", "- acme - - - - - " + md},
		"tenant of the row, declared uuid":          {"u", "UPDATE t SET u = '" + other + "'", other + " - - - - - - " + md},
		"tenant of the session, declared uuid":      {"u", "SET fraiseql.tenant_id = '" + other + "'", other + " - - - - - - " + md},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, _ := captured(t, "CREATE TABLE t (id int PRIMARY KEY, v text, u uuid); INSERT INTO t VALUES (1)", capture.Capture{Table: "t", Tenant: tt.tenant})
			testenv.Exec(t, conn, tt.sql)
			testenv.Exec(t, conn, "TRUNCATE core.tb_entity_change_log; UPDATE t SET id = id; TRUNCATE t")
			rows := strings.Split(testenv.Value[string](t, conn, shown), "\n")
			if rows[0] != tt.want {
				t.Errorf("got  %s\nwant %s", rows[0], tt.want)
			}
			if tt.tenant == "" && rows[1] != tt.want {
				t.Errorf("TRUNCATE: got  %s\nwant %s", rows[1], tt.want)
			}
		})
	}
}

func TestWriterWithoutRights(t *testing.T) {
	t.Parallel()
	conn, _ := captured(t, plain, withBefore("t"))
	role := roleFor(t, conn)
	testenv.Exec(t, conn, "GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON t TO "+role)
	testenv.Exec(t, conn, "GRANT USAGE ON SCHEMA fraiseql_observer TO "+role)
	testenv.Exec(t, conn, "SET ROLE "+role)
	testenv.Exec(t, conn, `INSERT INTO t VALUES (1, 'a'); UPDATE t SET v = 'b'; TRUNCATE t`)
	var denied *pgconn.PgError
	if _, err := conn.Exec(t.Context(), "SELECT FROM core.tb_entity_change_log"); !errors.As(err, &denied) || denied.Code != "42501" {
		t.Errorf("the writer may read the log: %v", err)
	}
	function := testenv.Value[string](t, conn, "SELECT oid::regprocedure::text FROM pg_proc WHERE proname LIKE 'capture_public%'")
	testenv.Exec(t, conn, "CREATE TEMP TABLE mine (id int, v text)")
	if _, err := conn.Exec(t.Context(), "CREATE TRIGGER forge AFTER INSERT ON mine REFERENCING NEW TABLE AS fraiseql_new FOR EACH STATEMENT EXECUTE FUNCTION "+function); !errors.As(err, &denied) || denied.Code != "42501" {
		t.Errorf("the writer may forge events with the function: %v", err)
	}
	testenv.Exec(t, conn, "RESET ROLE")
	wantLog(t, conn, `INSERT E 1 {"v": "a", "id": 1} -`, `UPDATE E 1 {"v": "b", "id": 1} {"v": "a", "id": 1}`, `CUSTOM E - {"table": "public.t", "operation": "TRUNCATE"} -`)
}

// A search path of the session cannot put other functions and operators under the
// names that the function uses.
func TestHostileSearchPath(t *testing.T) {
	t.Parallel()
	conn, _ := captured(t, plain, of("t"))
	testenv.Exec(t, conn, `CREATE SCHEMA evil; CREATE FUNCTION evil.to_jsonb(record) RETURNS jsonb LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END';
		CREATE FUNCTION evil.lower(text) RETURNS text LANGUAGE plpgsql AS 'BEGIN RAISE ''evil''; END'; SET search_path = evil, pg_catalog, public`)
	testenv.Exec(t, conn, "INSERT INTO t VALUES (1)")
	wantLog(t, conn, `INSERT E 1 {"v": null, "id": 1} -`)
}

func TestErrorsOfTheTransactionPass(t *testing.T) {
	t.Parallel()
	t.Run("statement timeout", func(t *testing.T) {
		t.Parallel()
		conn, url := captured(t, plain, of("t"))
		locker := testenv.Connect(t, url)
		testenv.Exec(t, locker, "BEGIN")
		testenv.Exec(t, locker, "LOCK TABLE core.tb_entity_change_log")
		for setting, code := range map[string]string{"statement_timeout": "57014", "lock_timeout": "55P03"} {
			testenv.Exec(t, conn, "SET "+setting+" = '50ms'")
			var failed *pgconn.PgError
			if _, err := conn.Exec(t.Context(), "INSERT INTO t VALUES (1)"); !errors.As(err, &failed) || failed.Code != code || strings.Contains(failed.Where, "at EXECUTE") {
				t.Errorf("%s: %v, or tried a second time: %v", setting, err, failed)
			}
			testenv.Exec(t, conn, "RESET "+setting)
		}
		testenv.Exec(t, locker, "ROLLBACK")
		wantLog(t, conn, "")
	})
	t.Run("serializable", func(t *testing.T) {
		t.Parallel()
		conn, url := captured(t, plain+"; INSERT INTO t VALUES (1, 'a'), (2, 'a')", of("t"))
		other := testenv.Connect(t, url)
		for _, c := range []string{"UPDATE t SET v = (SELECT v FROM t WHERE id = 2) || 'x' WHERE id = 1"} {
			testenv.Exec(t, conn, "BEGIN ISOLATION LEVEL SERIALIZABLE")
			testenv.Exec(t, other, "BEGIN ISOLATION LEVEL SERIALIZABLE")
			testenv.Exec(t, conn, c)
			testenv.Exec(t, other, "UPDATE t SET v = (SELECT v FROM t WHERE id = 1) || 'y' WHERE id = 2")
		}
		testenv.Exec(t, conn, "COMMIT")
		var failed *pgconn.PgError
		if _, err := other.Exec(t.Context(), "COMMIT"); !errors.As(err, &failed) || failed.Code != "40001" {
			t.Errorf("commit of the second: %v", err)
		}
		wantLog(t, conn, `UPDATE E 1 {"v": "ax", "id": 1} -`)
	})
}

func TestSmallTransactionsDrawOneTransactionID(t *testing.T) {
	t.Parallel()
	conn, _ := captured(t, plain, withBefore("t"))
	testenv.Exec(t, conn, "BEGIN")
	testenv.Exec(t, conn, "INSERT INTO t VALUES (1), (2); UPDATE t SET v = 'a'; DELETE FROM t")
	if n := testenv.Value[int](t, conn, "SELECT count(DISTINCT xmin::text) FROM core.tb_entity_change_log"); n != 1 {
		t.Errorf("%d transaction ids: each statement was a subtransaction", n)
	}
	if same := testenv.Value[bool](t, conn, "SELECT bool_and(xmin::text = (pg_current_xact_id()::text::bigint % 4294967296)::text) FROM core.tb_entity_change_log"); !same {
		t.Error("the log was written in a subtransaction")
	}
	testenv.Exec(t, conn, "ROLLBACK")
}
