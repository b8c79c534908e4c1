package changelog_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/source/postgres/changelog"
)

// fraiseqlLog is a log as a FraiseQL server makes it, with a row.
const fraiseqlLog = `CREATE SCHEMA core; CREATE SEQUENCE core.seq_entity_change_log;
CREATE TABLE core.tb_entity_change_log (
	pk_entity_change_log BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id UUID DEFAULT gen_random_uuid() NOT NULL,
	object_type TEXT NOT NULL, modification_type TEXT NOT NULL, created_at TIMESTAMPTZ DEFAULT now() NOT NULL, object_id UUID, object_data JSONB,
	updated_fields TEXT[], cascade JSONB, duration_ms INT, started_at TIMESTAMPTZ, tenant_id UUID, fk_customer_org BIGINT, fk_contact BIGINT,
	seq BIGINT DEFAULT nextval('core.seq_entity_change_log'), actor_type VARCHAR(20), change_status TEXT DEFAULT 'new', extra_metadata JSONB);
INSERT INTO core.tb_entity_change_log (object_type, modification_type) VALUES ('Order', 'CUSTOM')`

const shape = `SELECT string_agg(concat_ws(' ', attname, format_type(atttypid, atttypmod), attnotnull, pg_get_expr(adbin, adrelid)), E'\n' ORDER BY attnum)
	FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
	WHERE attrelid = 'core.tb_entity_change_log'::regclass AND attnum > 0`

func TestMigrateCompletesALogOfFraiseQL(t *testing.T) {
	t.Parallel()
	url := testenv.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, fraiseqlLog)
	row := testenv.Value[string](t, conn, "SELECT l::text FROM core.tb_entity_change_log l")
	before := strings.Split(testenv.Value[string](t, conn, shape), "\n")
	for range 2 {
		if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	after := strings.Split(testenv.Value[string](t, conn, shape), "\n")
	if d := cmp.Diff(before, after[:len(before)]); d != "" {
		t.Errorf("columns that were there (-before +after):\n%s", d)
	}
	want := []string{
		"object_data_before jsonb f", "commit_time timestamp with time zone f", "acting_for uuid f", "schema_version text f", "trace_id text f",
		"trace_context jsonb f", "nats_published_at timestamp with time zone f", "nats_event_id uuid f", "entity_key text f", "tenant_key text f",
	}
	if d := cmp.Diff(want, after[len(before):]); d != "" {
		t.Errorf("columns that were added (-want +got):\n%s", d)
	}
	if got := testenv.Value[string](t, conn, "SELECT l::text FROM core.tb_entity_change_log l"); !strings.HasPrefix(got, strings.TrimSuffix(row, ")")) {
		t.Errorf("the row was %s, is %s", row, got)
	}
	testenv.Exec(t, conn, "INSERT INTO core.tb_entity_change_log (object_type, modification_type) VALUES ('Order', 'CUSTOM')")
	if n := testenv.Value[int](t, conn, "SELECT count(*) FROM pg_index WHERE indrelid = 'core.tb_entity_change_log'::regclass"); n != 1 {
		t.Errorf("%d indexes", n)
	}
}

func TestMigrateRefusesAnotherTable(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ sql, want string }{
		"table": {"CREATE SCHEMA core; CREATE TABLE core.tb_entity_change_log (id uuid)", "is not a change log"},
		"view":  {"CREATE SCHEMA core; CREATE VIEW core.tb_entity_change_log AS SELECT 1", "is not a table"},
	} {
		url := testenv.Database(t)
		conn := testenv.Connect(t, url)
		testenv.Exec(t, conn, tt.sql)
		if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", name, err)
		}
		if testenv.Value[bool](t, conn, "SELECT to_regnamespace('fraiseql_observer') IS NOT NULL") {
			t.Errorf("%s: something was left behind", name)
		}
	}
}

// What was lost after the migration comes back.
func TestMigrateMends(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ harm, want string }{
		"log":      {"DROP TABLE core.tb_entity_change_log", "table core.tb_entity_change_log is missing"},
		"trigger":  {"DROP TRIGGER fraiseql_wake_up ON core.tb_entity_change_log", "trigger fraiseql_wake_up"},
		"disabled": {"ALTER TABLE core.tb_entity_change_log DISABLE TRIGGER ALL", "trigger fraiseql_wake_up"},
		"column":   {"ALTER TABLE core.tb_entity_change_log DROP tenant_key", "column tenant_key"},
		"setting":  {"DROP TABLE fraiseql_observer.tb_setting", "table fraiseql_observer.tb_setting"},
		"function": {"CREATE OR REPLACE FUNCTION fraiseql_observer.changelog_wake_up() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "function fraiseql_observer.changelog_wake_up"},
		"schema":   {"DROP SCHEMA fraiseql_observer CASCADE", "function fraiseql_observer.capture_value"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Database(t)
			conn := testenv.Connect(t, url)
			if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
				t.Fatal(err)
			}
			testenv.Exec(t, conn, tt.harm)
			if err := changelog.Ready(t.Context(), conn, changelog.Options{}); !errors.Is(err, changelog.ErrNotReady) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("ready: %v", err)
			}
			if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
				t.Error(err)
			}
		})
	}
}

// A role that may only log in finds nothing to do, and is told what is missing.
func TestRoleWithoutRights(t *testing.T) {
	t.Parallel()
	server := testenv.PrivatePostgres(t, testenv.Options{})
	url := server.Database(t)
	conn := testenv.Connect(t, url)
	testenv.Exec(t, conn, "CREATE ROLE reader LOGIN PASSWORD 'reader'")
	config := conn.Config().Copy()
	reader := "postgres://reader:reader@127.0.0.1/" + config.Database + "?port=" + testenv.Value[string](t, conn, "SELECT current_setting('port')")
	err := changelog.Migrate(t.Context(), reader, changelog.Options{})
	if err == nil || !strings.Contains(err.Error(), "permission denied") {
		t.Errorf("empty database: %v", err)
	}
	if err := changelog.Migrate(t.Context(), url, changelog.Options{}); err != nil {
		t.Fatal(err)
	}
	if err := changelog.Migrate(t.Context(), reader, changelog.Options{}); err != nil {
		t.Errorf("prepared database: %v", err)
	}
	testenv.Exec(t, conn, "ALTER TABLE core.tb_entity_change_log ENABLE ROW LEVEL SECURITY; GRANT USAGE ON SCHEMA core TO reader; GRANT SELECT ON core.tb_entity_change_log TO reader")
	other, err := changelog.Connect(t.Context(), reader)
	if err != nil {
		t.Fatal(err)
	}
	l, err := changelog.Inspect(t.Context(), other, changelog.Name{})
	if err != nil || !l.RowSecurity || l.SequenceCache != 1 {
		t.Errorf("layout %+v, %v", l, err)
	}
	if err := other.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestErrorsKeepThePassword(t *testing.T) {
	t.Parallel()
	for _, url := range []string{"postgres://u:hunter2@127.0.0.1:1/db?connect_timeout=1", "postgres://u:hunter2@[::1/db", "host=127.0.0.1 port=1 password=hunter2 connect_timeout=1", "postgres://u:hunter2@h/db?sslmode=nope"} {
		err := changelog.Migrate(t.Context(), url, changelog.Options{})
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v", err)
		}
	}
}

func TestOptionsAreChecked(t *testing.T) {
	t.Parallel()
	for _, o := range []changelog.Options{
		{Notify: "sometimes"},
		{Schema: strings.Repeat("x", 64)},
		{Log: changelog.Name{Table: "a\x00b"}},
		{Log: changelog.Name{Schema: "s", Table: "changelog_version"}, Schema: "s"},
	} {
		if err := changelog.Migrate(t.Context(), "postgres://127.0.0.1:1/nowhere", o); err == nil || strings.Contains(err.Error(), "connect") {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

func TestLogsOfOtherKinds(t *testing.T) {
	t.Parallel()
	const rest = ", id uuid, object_type text, modification_type text, created_at timestamptz"
	for name, tt := range map[string]struct {
		sql, identity, sequence string
		cache                   int64
	}{
		"serial":     {"CREATE TABLE l (pk_entity_change_log bigserial PRIMARY KEY" + rest + ")", "", "public.l_pk_entity_change_log_seq", 1},
		"by default": {"CREATE TABLE l (pk_entity_change_log bigint GENERATED BY DEFAULT AS IDENTITY (CACHE 10) PRIMARY KEY" + rest + ")", "BY DEFAULT", "public.l_pk_entity_change_log_seq", 10},
		"unowned":    {`CREATE SEQUENCE "S q"; CREATE TABLE l (pk_entity_change_log bigint DEFAULT nextval('"S q"')` + rest + ")", "", `public."S q"`, 1},
		"none":       {"CREATE TABLE l (pk_entity_change_log bigint" + rest + ") PARTITION BY RANGE (pk_entity_change_log)", "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn := testenv.Connect(t, testenv.Database(t))
			testenv.Exec(t, conn, tt.sql)
			l, err := changelog.Inspect(t.Context(), conn, changelog.Name{Schema: "public", Table: "l"})
			if err != nil || l.Identity != tt.identity || l.Sequence != tt.sequence || l.SequenceCache != tt.cache || (l.SequenceOID != 0) != (tt.sequence != "") || l.Partitioned != (name == "none") {
				t.Errorf("%+v, %v", l, err)
			}
		})
	}
}
